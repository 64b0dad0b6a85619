// SPDX-License-Identifier: Apache-2.0
#include "sandbox/guest_log.h"

#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace skerry::sandbox {

void GuestLog::replace(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
  torn_ = false;
}

void GuestLog::emit(Stream stream, std::string_view text, char tag) {
  if (fd_ < 0) {
    metrics_.add(metrics::Counter::LogLinesDropped);
    return;
  }
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec != second_) {
    second_ = now.tv_sec;
    tm parts;
    gmtime_r(&now.tv_sec, &parts);
    std::strftime(stamp_, sizeof stamp_, "%Y-%m-%dT%H:%M:%S.", &parts);
  }
  out_.clear();
  if (torn_) out_.push('\n');  // half a line is never continued by another one
  out_.append(std::string_view(stamp_, 20));
  char digits[9];
  auto rest = now.tv_nsec;
  for (int i = 8; i >= 0; --i, rest /= 10) digits[i] = static_cast<char>('0' + rest % 10);
  out_.append(digits, 9);
  out_.append(stream == Out ? "Z stdout " : "Z stderr ");
  out_.push(tag);
  out_.push(' ');
  out_.append(text);
  out_.push('\n');
  ssize_t n;
  do {
    n = ::write(fd_, out_.data(), out_.size());
  } while (n < 0 && errno == EINTR);
  // A full disk, or the file's limit (SIGXFSZ is ignored), loses lines and never a request.
  const bool whole = n == static_cast<ssize_t>(out_.size());
  if (n > 0) torn_ = !whole;
  metrics_.add(whole ? metrics::Counter::LogLines : metrics::Counter::LogLinesDropped);
}

void GuestLog::line(Stream stream, std::string_view text) {
  for (;;) {
    const auto newline = text.find('\n');
    const auto part = text.substr(0, std::min(newline, kLineMax));
    const bool whole = part.size() == text.size() || part.size() == newline;
    emit(stream, part, whole ? 'F' : 'P');
    text.remove_prefix(part.size());
    if (text.starts_with('\n')) text.remove_prefix(1);
    if (text.empty()) return;
  }
}

void GuestLog::write(Stream stream, std::string_view bytes) {
  auto& partial = partial_[stream];
  while (!bytes.empty()) {
    const auto newline = bytes.find('\n');
    if (newline == std::string_view::npos) {
      while (partial.size() + bytes.size() >= kLineMax) {
        const auto n = kLineMax - partial.size();
        partial.append(bytes.substr(0, n));
        bytes.remove_prefix(n);
        emit(stream, partial.view(), 'P');
        partial.clear();
      }
      partial.append(bytes);
      return;
    }
    if (partial.empty()) {
      line(stream, bytes.substr(0, newline));
    } else {
      partial.append(bytes.substr(0, newline));
      line(stream, partial.view());
      partial.clear();
    }
    bytes.remove_prefix(newline + 1);
  }
}

void GuestLog::flush() {
  for (const auto stream : {Out, Err}) {
    if (partial_[stream].empty()) continue;
    emit(stream, partial_[stream].view(), 'F');
    partial_[stream].clear();
  }
}

}  // namespace skerry::sandbox
