// SPDX-License-Identifier: Apache-2.0
#include "sandbox/http_output.h"

#include <sys/socket.h>

#include <cerrno>

namespace skerry::sandbox {
namespace {

// Headers that only the host may send: they frame the message.
bool is_framing_header(std::string_view name) {
  switch (name.size()) {
    case 7: return equal_ignoring_case(name, "upgrade") || equal_ignoring_case(name, "trailer");
    case 10: return equal_ignoring_case(name, "connection") || equal_ignoring_case(name, "keep-alive");
    case 14: return equal_ignoring_case(name, "content-length");
    case 17: return equal_ignoring_case(name, "transfer-encoding");
    default: return false;
  }
}

}  // namespace

void ResponseWriter::field(const Field& field) {
  out_.append(field.name);
  out_.append(": ");
  out_.append(field.value);
  out_.append("\r\n");
}

void ResponseWriter::date(std::uint64_t second) {
  if (date_size_ == 0 || second != date_second_) {
    date_second_ = second;
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    tm parts;
    gmtime_r(&t.tv_sec, &parts);
    date_size_ = std::strftime(date_, sizeof date_, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
  }
  out_.append(date_, date_size_);
}

void ResponseWriter::length(const Response& response, bool head_only, std::string_view of_head_only) {
  out_.append("Content-Length: ");
  if (head_only && response.body_bytes == 0 && !of_head_only.empty() &&
      of_head_only.find_first_not_of("0123456789") == std::string_view::npos) {
    out_.append(of_head_only);
  } else {
    append_number(out_, response.body_bytes);
  }
  out_.append("\r\n");
}

void ResponseWriter::head(const Response& response, const Framing& framing, std::uint64_t second, bool with_length) {
  if (response.status == 200) {
    out_.append("HTTP/1.1 200 OK\r\n");
  } else {
    out_.append("HTTP/1.1 ");
    append_number(out_, static_cast<std::uint64_t>(response.status));
    out_.push(' ');
    out_.append(reason_phrase(response.status));
    out_.append("\r\n");
  }
  bool has_date = false;
  std::string_view length_of_head_only;
  for (const auto& one : response.headers.fields()) {
    if (is_framing_header(one.name)) {
      if (framing.head_only && one.name.size() == 14) length_of_head_only = one.value;
      continue;
    }
    if (one.name.size() == 4 && equal_ignoring_case(one.name, "date")) has_date = true;
    field(one);
  }
  if (!has_date) date(second);
  if (framing.chunked) out_.append("Transfer-Encoding: chunked\r\n");
  else if (with_length) length(response, framing.head_only, length_of_head_only);
  if (framing.chunked && !response.trailers.empty()) {
    out_.append("Trailer: ");
    bool first = true;
    for (const auto& one : response.trailers.fields()) {
      if (!first) out_.append(", ");
      out_.append(one.name);
      first = false;
    }
    out_.append("\r\n");
  }
  if (framing.close_after) out_.append("Connection: close\r\n");
  else if (framing.http_1_0) out_.append("Connection: keep-alive\r\n");
  out_.append("\r\n");
}

void ResponseWriter::piece(const Response& response, const Framing& framing) {
  if (response.body.empty()) return;
  if (framing.chunked) {
    append_hex(out_, response.body.size());
    out_.append("\r\n");
  }
  out_.append(response.body.view());
  if (framing.chunked) out_.append("\r\n");
}

void ResponseWriter::end_of_chunks(const Response& response) {
  out_.append("0\r\n");
  for (const auto& one : response.trailers.fields()) field(one);
  out_.append("\r\n");
}

Sent send_bytes(int fd, std::string_view bytes, std::size_t& sent) {
  while (sent < bytes.size()) {
    const ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n >= 0) sent += static_cast<std::size_t>(n);
    else if (errno == EAGAIN) return Sent::Blocked;
    else if (errno != EINTR) return Sent::Gone;
  }
  return Sent::All;
}

}  // namespace skerry::sandbox
