// SPDX-License-Identifier: Apache-2.0
#include "sandbox/http_connection.h"

#include <algorithm>

namespace skerry::sandbox {
namespace {

constexpr std::size_t kBufferKeptBytes = 64u << 10;  // a larger buffer is given back after its request
constexpr std::size_t kBufferKeptWhenClosedBytes = 16u << 10;

std::string_view trim_right(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

HttpConnection& of(llhttp_t* parser) { return *static_cast<HttpConnection*>(parser->data); }

int on_url(llhttp_t* parser, const char* at, std::size_t size) {
  auto& c = of(parser);
  const auto begin = static_cast<std::size_t>(at - c.head_base);
  if (begin + size > c.limits.header_bytes_max) return c.refuse(414, "the request's URI is too long\n");
  if (c.url_size == 0) c.url_at = static_cast<std::uint32_t>(begin);
  c.url_size += static_cast<std::uint32_t>(size);
  c.head_size = static_cast<std::uint32_t>(begin + size);
  return 0;
}

int on_trailer(HttpConnection& c, const char* at, std::size_t size, bool value) {
  if (c.trailer_bytes.size() + size > c.limits.header_bytes_max) return c.refuse(431, "the request's trailers are too large\n");
  if (!value && c.last_was_value) {
    if (c.trailers.size() >= c.limits.header_count_max) return c.refuse(431, "the request has too many trailers\n");
    c.trailers.push_back({static_cast<std::uint32_t>(c.trailer_bytes.size()), 0, 0, 0});
  }
  auto& field = c.trailers.back();
  if (value && field.value_size == 0) field.value_at = static_cast<std::uint32_t>(c.trailer_bytes.size());
  c.trailer_bytes.append(at, size);
  (value ? field.value_size : field.name_size) += static_cast<std::uint32_t>(size);
  c.last_was_value = value;
  return 0;
}

int on_field(llhttp_t* parser, const char* at, std::size_t size) {
  auto& c = of(parser);
  if (c.headers_done) return on_trailer(c, at, size, false);
  const auto begin = static_cast<std::size_t>(at - c.head_base);
  if (begin + size > c.limits.header_bytes_max) return c.refuse(431, "the request's headers are too large\n");
  if (c.last_was_value) {
    if (c.fields.size() >= c.limits.header_count_max) return c.refuse(431, "the request has too many headers\n");
    c.fields.push_back({static_cast<std::uint32_t>(begin), 0, 0, 0});
    c.last_was_value = false;
  }
  c.fields.back().name_size += static_cast<std::uint32_t>(size);
  c.head_size = static_cast<std::uint32_t>(begin + size);
  return 0;
}

int on_value(llhttp_t* parser, const char* at, std::size_t size) {
  auto& c = of(parser);
  if (c.headers_done) return on_trailer(c, at, size, true);
  const auto begin = static_cast<std::size_t>(at - c.head_base);
  if (begin + size > c.limits.header_bytes_max) return c.refuse(431, "the request's headers are too large\n");
  c.last_was_value = true;
  auto& field = c.fields.back();
  if (field.value_size == 0) {
    field.value_at = static_cast<std::uint32_t>(begin);
  } else if (field.value_at + field.value_size != begin) {
    return c.refuse(400, "a header is folded over several lines\n");
  }
  field.value_size += static_cast<std::uint32_t>(size);
  c.head_size = static_cast<std::uint32_t>(begin + size);
  return 0;
}

int on_headers_complete(llhttp_t* parser) {
  auto& c = of(parser);
  c.headers_done = true;
  c.last_was_value = true;
  parser->upgrade = 0;  // answered as an ordinary request: no protocol is switched
  if (parser->http_major != 1) return c.refuse(505, "only HTTP/1.0 and HTTP/1.1 are served\n");
  if ((parser->flags & F_TRANSFER_ENCODING) != 0) {
    if (parser->http_minor == 0) return c.refuse(400, "HTTP/1.0 knows no Transfer-Encoding\n");
    if (!c.only_chunked()) return c.refuse(501, "no Transfer-Encoding but chunked is served\n");
  }
  if (parser->method == HTTP_CONNECT) return c.refuse(501, "CONNECT is not served\n");
  if ((parser->flags & F_CONTENT_LENGTH) != 0 && parser->content_length > c.limits.body_bytes_max) {
    return c.refuse(413, "the request's body is too large\n");
  }
  return 0;
}

int on_body(llhttp_t* parser, const char* at, std::size_t size) {
  auto& c = of(parser);
  c.body_size += size;
  if (c.body_size > c.limits.body_bytes_max) return c.refuse(413, "the request's body is too large\n");
  if (c.body_size == size) {
    c.inline_body = {at, size};
    return 0;
  }
  c.spill_body();
  c.body.append(at, size);
  return 0;
}

int on_chunk_extension(llhttp_t* parser, const char*, std::size_t size) {
  auto& c = of(parser);
  c.extension_size += size;
  return c.extension_size > c.limits.header_bytes_max ? c.refuse(400, "the request's chunk extensions are too large\n") : 0;
}

int on_message_complete(llhttp_t* parser) {
  of(parser).message_done = true;
  return HPE_PAUSED;
}

}  // namespace

llhttp_settings_t connection_callbacks() {
  llhttp_settings_t settings;
  llhttp_settings_init(&settings);
  settings.on_url = on_url;
  settings.on_header_field = on_field;
  settings.on_header_value = on_value;
  settings.on_headers_complete = on_headers_complete;
  settings.on_body = on_body;
  settings.on_chunk_extension_name = settings.on_chunk_extension_value = on_chunk_extension;
  settings.on_message_complete = on_message_complete;
  return settings;
}

void HttpConnection::begin(int descriptor, const llhttp_settings_t& settings) {
  fd = descriptor;
  phase = Waiting;
  served_one = close_after = read_paused = saw_end = again = false;
  lingered = 0;
  pending.clear();
  pending_at = 0;
  unparsed.clear();
  begin_message();
  llhttp_init(&parser, HTTP_REQUEST, &settings);
  parser.data = this;
}

void HttpConnection::begin_message() {
  headers_done = message_done = committed = chunked = false;
  last_was_value = true;
  refusal = 0;
  url_at = url_size = head_size = 0;
  body_size = extension_size = 0;
  fields.clear();
  trailers.clear();
  in.clear();
  body.clear();
  if (in.capacity() > kBufferKeptBytes) in.release();
  if (body.capacity() > kBufferKeptBytes) body.release();
  trailer_bytes.clear();
  inline_body = {};
}

void HttpConnection::spill_body() {
  if (inline_body.empty()) return;
  if (body.empty() && parser.content_length <= limits.body_bytes_max) body.reserve(inline_body.size() + parser.content_length);
  body.append(inline_body);
  inline_body = {};
}

int HttpConnection::fill(Request& r) const {
  r.method = llhttp_method_name(static_cast<llhttp_method_t>(parser.method));
  r.head_only = parser.method == HTTP_HEAD;
  r.version = parser.http_minor == 0 ? "HTTP/1.0" : "HTTP/1.1";
  r.uri = {head_base + url_at, url_size};
  r.headers.clear();
  r.trailers.clear();
  r.host = {};
  int hosts = 0;
  for (const auto& field : fields) {
    const std::string_view name(head_base + field.name_at, field.name_size);
    const auto value = trim_right({head_base + field.value_at, field.value_size});
    if (name.size() == 4 && equal_ignoring_case(name, "host")) {
      ++hosts;
      r.host = value;
    }
    r.headers.append_view(name, value);
  }
  for (const auto& field : trailers) {
    r.trailers.append_view({trailer_bytes.data() + field.name_at, field.name_size},
                           trim_right({trailer_bytes.data() + field.value_at, field.value_size}));
  }
  r.body = inline_body.empty() ? body.view() : inline_body;
  r.source_address = {address, address_size};
  if (!r.uri.starts_with('/')) {  // absolute form (RFC 9112, 3.2.2): the authority goes, path and query stay
    if (const auto scheme = r.uri.find("://"); scheme != std::string_view::npos) {
      const auto path = r.uri.find_first_of("/?", scheme + 3);
      r.uri = path == std::string_view::npos ? std::string_view("/") : r.uri.substr(path);
    }
    if (r.uri.empty()) r.uri = "/";
  }
  return hosts;
}

bool HttpConnection::only_chunked() const {
  int codings = 0;
  for (const auto& field : fields) {
    if (!equal_ignoring_case({head_base + field.name_at, field.name_size}, "transfer-encoding")) continue;
    if (++codings > 1 || !equal_ignoring_case(trim_right({head_base + field.value_at, field.value_size}), "chunked")) return false;
  }
  return true;
}

std::string_view HttpConnection::kept_header(std::string_view name) const {
  for (const auto& field : fields) {
    if (equal_ignoring_case({in.data() + field.name_at, field.name_size}, name)) {
      return trim_right({in.data() + field.value_at, field.value_size});
    }
  }
  return {};
}

void HttpConnection::release_buffers() {
  for (auto* buffer : {&in, &body, &pending, &unparsed}) {
    buffer->clear();
    if (buffer->capacity() > kBufferKeptWhenClosedBytes) buffer->release();
  }
}

void ConnectionTimers::set(HttpConnection& c, HttpTimer timer, std::uint64_t now_ms) {
  if (c.timer != HttpTimer::None) {
    auto& list = lists_[index(c.timer)];
    (c.previous != nullptr ? c.previous->next : list.first) = c.next;
    (c.next != nullptr ? c.next->previous : list.last) = c.previous;
  }
  c.timer = timer;
  c.next = c.previous = nullptr;
  if (timer == HttpTimer::None) return;
  auto& list = lists_[index(timer)];
  c.deadline_ms = now_ms + list.length_ms;
  c.previous = list.last;
  (list.last != nullptr ? list.last->next : list.first) = &c;
  list.last = &c;
}

HttpConnection* ConnectionTimers::expired(std::uint64_t now_ms) const {
  for (const auto& list : lists_)
    if (list.first != nullptr && list.first->deadline_ms <= now_ms) return list.first;
  return nullptr;
}

std::uint64_t ConnectionTimers::next_deadline_ms() const {
  std::uint64_t next = ~0ull;
  for (const auto& list : lists_)
    if (list.first != nullptr) next = std::min(next, list.first->deadline_ms);
  return next;
}

}  // namespace skerry::sandbox
