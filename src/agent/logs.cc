// SPDX-License-Identifier: Apache-2.0
#include "agent/logs.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <format>
#include <system_error>

#include "base/text.h"
#include "os/file.h"

namespace skerry::agent {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kChunk = 64 << 10;
constexpr Duration kFollowPause = 200ms;

std::string file_stamp(Time t) {
  std::string text = to_rfc3339_nano(t);  // 2026-11-23T10:15:00.123456789Z -> 20261123-101500.123456789
  std::string out;
  for (char c : text)
    if ((c >= '0' && c <= '9') || c == '.') out += c;
    else if (c == 'T') out += '-';
  return out;
}

// The next name in the order: its nanoseconds plus one; past the last of a second it grows longer.
std::string successor_of(std::string name) {
  const auto at = name.find_last_not_of('9');
  if (at == std::string::npos || name[at] < '0' || name[at] > '8') return name + "1";
  ++name[at];
  std::fill(name.begin() + static_cast<std::ptrdiff_t>(at) + 1, name.end(), '0');
  return name;
}

std::uint64_t inode_of(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
}
std::uint64_t size_of(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}
std::uint64_t inode_of(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

}  // namespace

fs::path LogFolder::container_folder(const LogPlace& p) const {
  return options_.folder / std::format("{}_{}_{}", p.namespace_, p.pod, p.uid) / p.container;
}

Result<os::UniqueFd> LogFolder::open(const LogPlace& place, std::uint32_t attempt) const {
  const fs::path folder = container_folder(place);
  TRY_OK(os::make_folders(folder, 0755));
  if (attempt >= 2) {
    std::error_code ignored;
    for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end; it.increment(ignored)) {
      const std::string name = it->path().filename().string();
      const auto number = parse_int<std::uint32_t>(std::string_view(name).substr(0, name.find('.')));
      std::error_code failed;
      if (number && *number + 1 < attempt) fs::remove(it->path(), failed);
    }
  }
  return os::open_file(folder / std::format("{}.log", attempt), O_WRONLY | O_CREAT | O_APPEND, 0640);
}

Result<bool> LogFolder::rotate(const LogPlace& place, std::uint32_t attempt, Time now) const {
  const fs::path path = container_folder(place) / std::format("{}.log", attempt);
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || static_cast<std::uint64_t>(info.st_size) < options_.bytes_max) return false;
  // Names tell the order, and the clock may have gone back: a later file never has an earlier one's name.
  auto all = files(place, attempt);
  std::string to = path.string() + "." + file_stamp(now);
  if (all.size() >= 2 && to <= all[all.size() - 2].string()) to = successor_of(all[all.size() - 2].string());
  std::error_code error;
  fs::rename(path, to, error);
  if (error) return Fail({Errc::Internal, std::format("rotating {}: {}", path.string(), error.message())});
  all = files(place, attempt);
  // The present file is about to be made anew: it counts too.
  while (all.size() + 1 > options_.files_max && !all.empty()) {
    fs::remove(all.front(), error);
    all.erase(all.begin());
  }
  return true;
}

Result<> LogFolder::remove(std::string_view ns, std::string_view pod, std::string_view uid) const {
  std::error_code error;
  const fs::path folder = options_.folder / std::format("{}_{}_{}", ns, pod, uid);
  fs::remove_all(folder, error);
  if (error) return Fail({Errc::Internal, std::format("removing {}: {}", folder.string(), error.message())});
  return {};
}

std::vector<fs::path> LogFolder::files(const LogPlace& place, std::uint32_t attempt) const {
  const std::string present = std::format("{}.log", attempt);
  std::vector<fs::path> out;
  bool has_present = false;
  std::error_code error;
  const fs::path folder = container_folder(place);
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name == present) has_present = true;
    else if (name.starts_with(present + ".")) out.push_back(it->path());
  }
  std::ranges::sort(out);
  if (has_present) out.push_back(folder / present);
  return out;
}

void LogFolder::collect(const std::function<bool(std::string_view)>& keep) const {
  std::error_code error;
  for (fs::directory_iterator it(options_.folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const auto at = name.rfind('_');
    std::error_code ignored;
    if (at != std::string::npos && !keep(std::string_view(name).substr(at + 1))) fs::remove_all(it->path(), ignored);
  }
}

Result<LogQuery> LogQuery::parse(const http::Target& target, Time now) {
  LogQuery out;
  const auto number = [&](std::string_view name) -> Result<std::optional<std::uint64_t>> {
    if (!target.has_param(name)) return std::optional<std::uint64_t>{};
    const auto value = parse_int<std::int64_t>(target.param(name));
    if (!value || *value < 0) return Fail({Errc::Invalid, std::format("{}={} is not a number from 0", name, target.param(name).substr(0, 32))});
    return std::optional(static_cast<std::uint64_t>(*value));
  };
  const auto flag = [&](std::string_view name) {
    const auto v = target.param(name);
    return v == "true" || v == "1" || v == "True";
  };
  TRY(out.tail_lines, number("tailLines"));
  TRY(out.limit_bytes, number("limitBytes"));
  TRY(const auto seconds, number("sinceSeconds"));
  if (seconds) out.since = now - std::chrono::seconds(std::min<std::uint64_t>(*seconds, 100ULL * 365 * 86400));
  if (target.has_param("sinceTime")) {
    out.since = from_rfc3339(target.param("sinceTime"));
    if (!out.since) return Fail({Errc::Invalid, std::format("sinceTime={} is not a time", target.param("sinceTime").substr(0, 64))});
  }
  out.timestamps = flag("timestamps");
  out.follow = flag("follow");
  out.previous = flag("previous");
  return out;
}

void LogDecoder::emit(std::string_view text, std::string& out) {
  if (left_) {
    text = text.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(*left_, text.size())));
    *left_ -= text.size();
  }
  out += text;
}

void LogDecoder::line(std::string_view line, std::string& out) {
  // time, stream, tag, text
  const auto a = line.find(' ');
  const auto b = a == std::string_view::npos ? a : line.find(' ', a + 1);
  const auto c = b == std::string_view::npos ? b : line.find(' ', b + 1);
  const auto tag = c == std::string_view::npos ? std::string_view() : line.substr(b + 1, c - b - 1);
  if (tag != "F" && tag != "P") {
    if (since_) return;
    emit(line, out);
    emit("\n", out);
    return;
  }
  const std::string_view stamp = line.substr(0, a), text = line.substr(c + 1);
  if (since_) {
    const auto at = from_rfc3339(stamp);
    if (!at || *at < *since_) {
      in_partial_ = false;
      return;
    }
  }
  if (timestamps_ && !in_partial_) {
    emit(stamp, out);
    emit(" ", out);
  }
  emit(text, out);
  in_partial_ = tag == "P";
  if (!in_partial_) emit("\n", out);
}

void LogDecoder::feed(std::string_view bytes, std::string& out) {
  while (!bytes.empty() && !done()) {
    const auto end = bytes.find('\n');
    if (end == std::string_view::npos) {
      rest_ += bytes;
      if (rest_.size() > kLineMax) {
        line(rest_, out);
        rest_.clear();
      }
      return;
    }
    if (rest_.empty()) {
      line(bytes.substr(0, end), out);
    } else {
      rest_ += bytes.substr(0, end);
      line(rest_, out);
      rest_.clear();
    }
    bytes.remove_prefix(end + 1);
  }
}

LogStart find_tail(const std::vector<fs::path>& files, std::uint64_t lines) {
  std::string buffer(kChunk, '\0');
  for (std::size_t i = files.size(); i-- > 0;) {
    auto fd = os::open_file(files[i], O_RDONLY);
    if (!fd) continue;
    struct stat info {};
    if (::fstat(fd->get(), &info) != 0) continue;
    const auto size = static_cast<std::uint64_t>(info.st_size);
    if (lines == 0) return {i, size};
    std::uint64_t end = size;
    while (end > 0) {
      const std::uint64_t begin = end > kChunk ? end - kChunk : 0;
      const ssize_t n = ::pread(fd->get(), buffer.data(), static_cast<std::size_t>(end - begin), static_cast<off_t>(begin));
      if (n <= 0) break;
      for (auto at = static_cast<std::size_t>(n); at-- > 0;) {
        if (buffer[at] != '\n' || begin + at + 1 == size) continue;
        if (--lines == 0) return {i, begin + at + 1};
      }
      end = begin;
    }
    if (size > 0 && --lines == 0) return {i, 0};  // the first line of the file has no newline before it
  }
  return {};
}

namespace {

// Holds every file open as soon as it is seen, so that a rotation under a slow reader removes names, not content.
class LogStream final : public http::Stream {
 public:
  LogStream(LogFiles list, const LogQuery& query, std::function<bool()> alive)
      : list_(std::move(list)), follow_(query.follow), alive_(std::move(alive)), decoder_(query) {
    const std::vector<fs::path> files = list_();
    LogStart start;
    if (query.tail_lines) start = find_tail(files, *query.tail_lines);
    offset_ = start.offset;
    open_from(files, start.file);
    for (File& file : open_) file.settled = true;
    if (!open_.empty()) open_.back().settled = false;
  }

  rt::Task<std::optional<http::Chunk>> next() override {
    for (;;) {
      auto piece = read();
      if (!piece.empty()) co_return std::make_shared<const std::string>(std::move(piece));
      if (ended_ || decoder_.done()) co_return std::optional<http::Chunk>{};
      CO_TRY_OK(co_await rt::sleep_for(kFollowPause));
    }
  }

 private:
  struct File {
    os::UniqueFd fd;
    bool settled = false;  // nobody writes to it any more
  };

  // What is there now, decoded; empty: nothing more yet, or the end.
  std::string read() {
    std::string out, buffer(kChunk, '\0');
    while (out.empty() && !ended_ && !decoder_.done()) {
      const ssize_t n = open_.empty() ? 0 : ::pread(open_.front().fd.get(), buffer.data(), buffer.size(), static_cast<off_t>(offset_));
      if (n > 0) {
        offset_ += static_cast<std::uint64_t>(n);
        quiet_ = 0;
        decoder_.feed(std::string_view(buffer).substr(0, static_cast<std::size_t>(n)), out);
      } else if (!go_on()) {
        return out;
      }
    }
    return out;
  }

  // At the end of a file: true if there is another to read now; else more may come later, or it ended.
  bool go_on() {
    // `alive` is asked before the look at the files: what a container wrote at last is there when it is gone.
    const bool more_may_come = follow_ && alive_();
    if (follow_) open_new();
    if (open_.size() > 1) {
      // A writer learns of a rotation a moment later: what it still writes to the former file comes first. It has learnt of it
      // when the next file has something; other workers of the container do at the same time.
      const bool wait = more_may_come && open_.size() == 2 && !open_.front().settled;
      if (wait && (size_of(open_.back().fd.get()) == 0 || ++quiet_ <= kQuietReads)) return false;
      open_.pop_front();
      offset_ = 0;
      quiet_ = 0;
      return true;
    }
    if (!more_may_come) ended_ = true;
    return false;
  }

  void open_from(const std::vector<fs::path>& files, std::size_t first) {
    for (std::size_t i = first; i < files.size(); ++i)
      if (auto opened = os::open_file(files[i], O_RDONLY)) open_.push_back({.fd = std::move(*opened)});
  }

  // What was made after the newest file that is held. If that one has no name any more, all that is there came after it.
  void open_new() {
    const std::uint64_t newest = open_.empty() ? 0 : inode_of(open_.back().fd.get());
    const std::vector<fs::path> files = list_();
    std::size_t first = 0;
    for (std::size_t i = 0; i < files.size(); ++i)
      if (inode_of(files[i]) == newest) first = i + 1;
    const bool none = open_.empty();
    open_from(files, first);
    if (none) offset_ = 0;
  }

  static constexpr int kQuietReads = 2;
  LogFiles list_;
  bool follow_, ended_ = false;
  std::function<bool()> alive_;
  LogDecoder decoder_;
  std::deque<File> open_;  // the front is read, from offset_
  std::uint64_t offset_ = 0;
  int quiet_ = 0;
};

}  // namespace

std::unique_ptr<http::Stream> open_log_stream(LogFiles list, const LogQuery& query, std::function<bool()> alive) {
  return std::make_unique<LogStream>(std::move(list), query, std::move(alive));
}

}  // namespace skerry::agent
