// SPDX-License-Identifier: Apache-2.0
#include "sandbox/http_message.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace skerry::sandbox {
namespace {

constexpr std::array<bool, 256> kTokenCharacters = [] {
  std::array<bool, 256> out{};
  for (int c = '0'; c <= '9'; ++c) out[static_cast<std::size_t>(c)] = true;
  for (int c = 'a'; c <= 'z'; ++c) out[static_cast<std::size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) out[static_cast<std::size_t>(c)] = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) out[static_cast<std::size_t>(c)] = true;
  return out;
}();

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

}  // namespace

void Buffer::grow(std::size_t n) {
  const auto capacity = std::max<std::size_t>({n, capacity_ * 2, 512});
  auto bigger = std::make_unique_for_overwrite<char[]>(capacity);
  if (size_ > 0) std::memcpy(bigger.get(), data_.get(), size_);
  data_ = std::move(bigger);
  capacity_ = capacity;
}

char* Arena::take(std::size_t n) {
  constexpr std::size_t kChunkBytes = 4096;
  while (chunk_ < chunks_.size() && used_ + n > chunks_[chunk_].size) {
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks_.size()) {
    const auto size = std::max(n, kChunkBytes);
    chunks_.push_back({std::make_unique_for_overwrite<char[]>(size), size});
    used_ = 0;
  }
  char* out = chunks_[chunk_].bytes.get() + used_;
  used_ += n;
  return out;
}
std::string_view Arena::copy(std::string_view text) {
  if (text.empty()) return {};
  char* to = take(text.size());
  std::memcpy(to, text.data(), text.size());
  return {to, text.size()};
}
void Arena::reset() {
  constexpr std::size_t kChunksKept = 16;
  if (chunks_.size() > kChunksKept) chunks_.resize(kChunksKept);
  chunk_ = used_ = 0;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}
bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return kTokenCharacters[static_cast<unsigned char>(c)]; });
}
bool is_field_value(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
}

const std::string_view* HeaderList::find(std::string_view name) const {
  for (const auto& field : fields_) {
    if (equal_ignoring_case(field.name, name)) return &field.value;
  }
  return nullptr;
}
void HeaderList::add(Arena& arena, std::string_view name, std::string_view value) {
  fields_.push_back({arena.copy(name), arena.copy(value)});
}
void HeaderList::set(Arena& arena, std::string_view name, std::string_view value) {
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    if (!equal_ignoring_case(fields_[i].name, name)) continue;
    const auto key = arena.copy(name);  // `name` may be the very field that goes
    fields_[i].value = arena.copy(value);
    std::size_t kept = i + 1;
    for (std::size_t j = i + 1; j < fields_.size(); ++j) {
      if (!equal_ignoring_case(fields_[j].name, key)) fields_[kept++] = fields_[j];
    }
    fields_.resize(kept);
    return;
  }
  add(arena, name, value);
}
void HeaderList::remove(std::string_view name) {
  std::erase_if(fields_, [&](const Field& field) { return equal_ignoring_case(field.name, name); });
}

Response::Written Response::write(const void* data, std::size_t n) {
  if (n > body_bytes_max || body_bytes > body_bytes_max - n) return Written::TooLarge;
  body.append(data, n);
  body_bytes += n;
  if (body.size() >= kStreamBytes && stream != nullptr && !stream->flush(*this)) return Written::ClientGone;
  return Written::Ok;
}
void Response::clear() {
  status = 200;
  headers.clear();
  trailers.clear();
  body.clear();
  if (body.capacity() > 4 * kStreamBytes) body.release();
  committed = abort = false;
  body_bytes = 0;
}
void Response::plain(int status_code, std::string_view text) {
  status = status_code;
  headers.clear();
  trailers.clear();
  headers.append_view("content-type", "text/plain; charset=utf-8");
  body.clear();
  body.append(text);
  body_bytes = text.size();
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return status < 300 ? "OK" : status < 400 ? "Redirect" : status < 500 ? "Client Error" : "Server Error";
  }
}

void append_number(Buffer& out, std::uint64_t n) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, n).ptr;
  out.append(digits, static_cast<std::size_t>(end - digits));
}
void append_hex(Buffer& out, std::uint64_t n) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, n, 16).ptr;
  out.append(digits, static_cast<std::size_t>(end - digits));
}

}  // namespace skerry::sandbox
