// SPDX-License-Identifier: Apache-2.0
// The http-wasm handler ABI (module http_handler), whole. One exchange is current while the guest runs; before the first
// one only configuration, features and the log answer. A guest that breaks the contract (a pointer outside its memory, an
// unknown kind, an impossible value) traps; a result longer than its buffer writes nothing and returns its length.
#include <algorithm>
#include <cstring>
#include <format>

#include "sandbox/deadline.h"
#include "sandbox/guest_runtime.h"
#include "sandbox/guest_wasi.h"

namespace skerry::sandbox {
namespace {

using wasm::Frame;
using wasm::HostStatus;
using Params = const std::uint64_t*;

constexpr std::uint32_t kFeatureBufferRequest = 1, kFeatureTrailers = 4, kFeaturesAll = 7;

// What a guest may have the host keep for one request: names and values that it sets, URI and method.
constexpr std::size_t kKeptBytesMax = 1u << 20;
constexpr std::size_t kBodyKeptBytes = 256u << 10;

struct Exchange {
  Request* request = nullptr;  // null: no request is running (_initialize, _start)
  Response* response = nullptr;
  Arena* arena = nullptr;
  std::uint32_t features = 0;
  std::size_t request_body_at = 0, response_body_at = 0;
  bool request_body_written = false;
  bool response_body_written = false;  // the first write of each of the two calls overwrites
  Buffer request_body;
  Buffer scratch;
  std::size_t kept_bytes = 0;
  std::uint32_t features_at_start = 0;
  std::string_view config;
  GuestRuntime* runtime = nullptr;
};
Exchange exchange;

std::uint32_t u32(std::uint64_t v) { return static_cast<std::uint32_t>(v); }

// Writes text if it fits the guest's limit; the result is its length either way.
HostStatus give(Frame& frame, std::string_view text, std::uint64_t at, std::uint64_t limit, std::uint64_t* result) {
  if (text.size() <= limit && !text.empty()) {
    auto* to = frame.bytes(u32(at), u32(text.size()));
    if (to == nullptr) return HostStatus::Refuse;
    std::memcpy(to, text.data(), text.size());
  }
  *result = text.size();
  return HostStatus::Ok;
}
// The guest's text, or null data with `ok` false.
bool take(Frame& frame, std::uint64_t at, std::uint64_t size, std::string_view& out) {
  const auto* from = frame.bytes(u32(at), u32(size));
  if (from == nullptr) return false;
  out = {reinterpret_cast<const char*>(from), u32(size)};
  return true;
}

// The arena lives until the request's end, so a guest that changes things in a loop would fill it.
bool may_keep(std::size_t bytes) {
  exchange.kept_bytes += bytes;
  return exchange.kept_bytes <= kKeptBytesMax;
}

enum HeaderKind : std::uint64_t { kRequest = 0, kResponse = 1, kRequestTrailers = 2, kResponseTrailers = 3 };
HeaderList* headers_of(std::uint64_t kind) {
  if (exchange.request == nullptr) return nullptr;
  switch (kind) {
    case kRequest: return &exchange.request->headers;
    case kResponse: return &exchange.response->headers;
    case kRequestTrailers: return &exchange.request->trailers;
    case kResponseTrailers: return &exchange.response->trailers;
    default: return nullptr;
  }
}
bool is_trailers(std::uint64_t kind) { return kind >= kRequestTrailers; }
bool trailers_enabled() { return (exchange.features & kFeatureTrailers) != 0; }

HostStatus enable_features(Frame&, Params p, std::uint64_t* result) {
  auto& features = exchange.request == nullptr ? exchange.features_at_start : exchange.features;
  features |= u32(p[0]) & kFeaturesAll;
  *result = kFeaturesAll;
  return HostStatus::Ok;
}
HostStatus get_config(Frame& frame, Params p, std::uint64_t* result) { return give(frame, exchange.config, p[0], p[1], result); }

HostStatus log_enabled(Frame&, Params p, std::uint64_t* result) {
  const auto level = static_cast<std::int32_t>(u32(p[0]));
  *result = level >= 0 && level <= 2;
  return HostStatus::Ok;
}
HostStatus log_message(Frame& frame, Params p, std::uint64_t*) {
  const auto level = static_cast<std::int32_t>(u32(p[0]));
  std::string_view text;
  if (level < 0 || level > 2) return HostStatus::Ok;
  if (!take(frame, p[1], p[2], text)) return HostStatus::Refuse;
  if (exchange.runtime != nullptr) exchange.runtime->log().line(level == 0 ? GuestLog::Out : GuestLog::Err, text);
  return HostStatus::Ok;
}

HostStatus get_header_names(Frame& frame, Params p, std::uint64_t* result) {
  const auto* list = headers_of(p[0]);
  if (list == nullptr) return HostStatus::Refuse;
  if (is_trailers(p[0]) && !trailers_enabled()) return *result = 0, HostStatus::Ok;
  const auto& fields = list->fields();
  const auto is_first = [&](std::size_t i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (equal_ignoring_case(fields[j].name, fields[i].name)) return false;
    }
    return true;
  };
  std::uint64_t count = 0, size = 0;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (!is_first(i)) continue;
    ++count;
    size += fields[i].name.size() + 1;
  }
  *result = count << 32 | size;
  if (size == 0 || size > p[2]) return HostStatus::Ok;
  auto* to = frame.bytes(u32(p[1]), u32(size));
  if (to == nullptr) return HostStatus::Refuse;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (!is_first(i)) continue;
    for (const char c : fields[i].name) *to++ = static_cast<std::uint8_t>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    *to++ = 0;
  }
  return HostStatus::Ok;
}
HostStatus get_header_values(Frame& frame, Params p, std::uint64_t* result) {
  const auto* list = headers_of(p[0]);
  std::string_view name;
  if (list == nullptr || p[2] == 0 || !take(frame, p[1], p[2], name)) return HostStatus::Refuse;
  if (is_trailers(p[0]) && !trailers_enabled()) return *result = 0, HostStatus::Ok;
  std::uint64_t count = 0, size = 0;
  for (const auto& field : list->fields()) {
    if (!equal_ignoring_case(field.name, name)) continue;
    ++count;
    size += field.value.size() + 1;
  }
  *result = count << 32 | size;
  if (size == 0 || size > p[4]) return HostStatus::Ok;
  auto* to = frame.bytes(u32(p[3]), u32(size));
  if (to == nullptr) return HostStatus::Refuse;
  // The name may lie in the very bytes that are written: it is kept aside.
  exchange.scratch.clear();
  exchange.scratch.append(name);
  const auto key = exchange.scratch.view();
  for (const auto& field : list->fields()) {
    if (!equal_ignoring_case(field.name, key)) continue;
    std::memcpy(to, field.value.data(), field.value.size());
    to += field.value.size();
    *to++ = 0;
  }
  return HostStatus::Ok;
}

// What all three that change headers ask first.
HeaderList* mutable_headers(Frame& frame, Params p, std::string_view& name) {
  auto* list = headers_of(p[0]);
  if (list == nullptr || !take(frame, p[1], p[2], name) || !is_token(name)) return nullptr;
  if (is_trailers(p[0]) && !trailers_enabled()) return nullptr;
  if (p[0] == kResponse && exchange.response->committed) return nullptr;
  return list;
}
HostStatus set_header_value(Frame& frame, Params p, std::uint64_t*) {
  std::string_view name, value;
  auto* list = mutable_headers(frame, p, name);
  if (list == nullptr || !take(frame, p[3], p[4], value) || !is_field_value(value) || !may_keep(2 * name.size() + value.size())) {
    return HostStatus::Refuse;
  }
  list->set(*exchange.arena, name, value);
  return list->fields().size() <= HeaderList::kFieldsMax ? HostStatus::Ok : HostStatus::Refuse;
}
HostStatus add_header_value(Frame& frame, Params p, std::uint64_t*) {
  std::string_view name, value;
  auto* list = mutable_headers(frame, p, name);
  if (list == nullptr || !take(frame, p[3], p[4], value) || !is_field_value(value) || !may_keep(name.size() + value.size())) {
    return HostStatus::Refuse;
  }
  if (list->fields().size() >= HeaderList::kFieldsMax) return HostStatus::Refuse;
  list->add(*exchange.arena, name, value);
  return HostStatus::Ok;
}
HostStatus remove_header(Frame& frame, Params p, std::uint64_t*) {
  std::string_view name;
  auto* list = mutable_headers(frame, p, name);
  if (list == nullptr) return HostStatus::Refuse;
  list->remove(name);
  return HostStatus::Ok;
}

HostStatus read_body(Frame& frame, Params p, std::uint64_t* result) {
  if (exchange.request == nullptr || p[0] > 1 || p[2] == 0) return HostStatus::Refuse;
  const auto body = p[0] == 0 ? exchange.request->body : exchange.response->body.view();
  auto& at = p[0] == 0 ? exchange.request_body_at : exchange.response_body_at;
  at = std::min(at, body.size());
  auto* to = frame.bytes(u32(p[1]), u32(p[2]));
  if (to == nullptr) return HostStatus::Refuse;
  const auto n = std::min<std::size_t>(body.size() - at, p[2]);
  if (n > 0) std::memcpy(to, body.data() + at, n);
  at += n;
  *result = static_cast<std::uint64_t>(at == body.size()) << 32 | n;
  return HostStatus::Ok;
}
HostStatus write_body(Frame& frame, Params p, std::uint64_t*) {
  std::string_view bytes;
  if (exchange.request == nullptr || p[0] > 1 || !take(frame, p[1], p[2], bytes)) return HostStatus::Refuse;
  if (p[0] == 0) {
    auto& body = exchange.request_body;
    if (!exchange.request_body_written) {
      body.clear();
      exchange.request_body_written = true;
      exchange.request_body_at = 0;
    }
    if (body.size() + bytes.size() > exchange.response->body_bytes_max) return HostStatus::Refuse;
    body.append(bytes);
    exchange.request->body = body.view();
    return HostStatus::Ok;
  }
  auto& response = *exchange.response;
  if (!exchange.response_body_written) {
    exchange.response_body_written = true;
    if (!response.committed) {
      response.body.clear();
      response.body_bytes = 0;
    }
  }
  switch (response.write(bytes.data(), bytes.size())) {
    case Response::Written::Ok: return HostStatus::Ok;
    case Response::Written::TooLarge: return HostStatus::Refuse;
    case Response::Written::ClientGone: exchange.runtime->client_is_gone(); return HostStatus::Exit;
  }
  return HostStatus::Refuse;
}

HostStatus get_method(Frame& frame, Params p, std::uint64_t* result) {
  return exchange.request == nullptr ? HostStatus::Refuse : give(frame, exchange.request->method, p[0], p[1], result);
}
HostStatus set_method(Frame& frame, Params p, std::uint64_t*) {
  std::string_view text;
  if (exchange.request == nullptr || !take(frame, p[0], p[1], text) || !is_token(text) || !may_keep(text.size())) return HostStatus::Refuse;
  exchange.request->method = exchange.arena->copy(text);
  return HostStatus::Ok;
}
HostStatus get_uri(Frame& frame, Params p, std::uint64_t* result) {
  return exchange.request == nullptr ? HostStatus::Refuse : give(frame, exchange.request->uri, p[0], p[1], result);
}
HostStatus set_uri(Frame& frame, Params p, std::uint64_t*) {
  std::string_view text;
  if (exchange.request == nullptr || !take(frame, p[0], p[1], text) || !is_field_value(text) || !may_keep(text.size())) return HostStatus::Refuse;
  exchange.request->uri = text.empty() ? std::string_view("/") : exchange.arena->copy(text);
  return HostStatus::Ok;
}
HostStatus get_protocol_version(Frame& frame, Params p, std::uint64_t* result) {
  return exchange.request == nullptr ? HostStatus::Refuse : give(frame, exchange.request->version, p[0], p[1], result);
}
HostStatus get_source_addr(Frame& frame, Params p, std::uint64_t* result) {
  return exchange.request == nullptr ? HostStatus::Refuse : give(frame, exchange.request->source_address, p[0], p[1], result);
}
HostStatus get_status_code(Frame&, Params, std::uint64_t* result) {
  if (exchange.request == nullptr) return HostStatus::Refuse;
  *result = static_cast<std::uint64_t>(exchange.response->status);
  return HostStatus::Ok;
}
HostStatus set_status_code(Frame&, Params p, std::uint64_t*) {
  if (exchange.request == nullptr || exchange.response->committed || u32(p[0]) < 200 || u32(p[0]) > 999) return HostStatus::Refuse;
  exchange.response->status = static_cast<int>(u32(p[0]));
  return HostStatus::Ok;
}

constexpr wasm::HostFunction kFunctions[] = {
    {"enable_features", "i", "i", enable_features},
    {"get_config", "ii", "i", get_config},
    {"log", "iii", "", log_message},
    {"log_enabled", "i", "i", log_enabled},
    {"get_header_names", "iii", "I", get_header_names},
    {"get_header_values", "iiiii", "I", get_header_values},
    {"set_header_value", "iiiii", "", set_header_value},
    {"add_header_value", "iiiii", "", add_header_value},
    {"remove_header", "iii", "", remove_header},
    {"read_body", "iii", "I", read_body},
    {"write_body", "iii", "", write_body},
    {"get_method", "ii", "i", get_method},
    {"set_method", "ii", "", set_method},
    {"get_uri", "ii", "i", get_uri},
    {"set_uri", "ii", "", set_uri},
    {"get_protocol_version", "ii", "i", get_protocol_version},
    {"get_source_addr", "ii", "i", get_source_addr},
    {"get_status_code", "", "i", get_status_code},
    {"set_status_code", "i", "", set_status_code},
};

class HttpHandlerGuest final : public Guest {
 public:
  explicit HttpHandlerGuest(GuestRuntime& runtime) : runtime_(runtime) {
    exchange.config = runtime.assignment().config;
    exchange.runtime = &runtime;
  }

  Result<> start() override {
    TRY_OK(renew());
    if (!handle_request_) {
      return Fail(Error{Errc::Unsupported, "the module exports no handle_request; a WASI command serves requests with the annotation skerry.dev/handler: wagi"});
    }
    return {};
  }

  void handle(Request& request, Response& response, Arena& arena) override {
    if (runtime_.assignment().isolation == Isolation::PerRequest && used_) instance_ = wasm::Instance();
    if (!instance_) {
      if (const auto made = renew(); !made) {
        runtime_.log().line(GuestLog::Err, std::format("skerry: no instance for a request: {}", made.error().what));
        response.plain(503, "the guest could not be started for this request\n");
        return;
      }
    }
    used_ = true;
    exchange.request = &request;
    exchange.response = &response;
    exchange.arena = &arena;
    exchange.features = exchange.features_at_start;
    exchange.kept_bytes = 0;
    exchange.request_body_at = exchange.response_body_at = 0;
    exchange.request_body_written = exchange.response_body_written = false;
    run(request, response);
    exchange.request = nullptr;
    exchange.response = nullptr;
    if (exchange.request_body.capacity() > kBodyKeptBytes) exchange.request_body.release();
  }

 private:
  void run(Request& request, Response& response) {
    const auto now = monotonic_ns();
    const auto length = runtime_.request_deadline_ns();
    std::uint64_t context_next = 0;
    auto end = runtime_.call_i64(handle_request_, context_next, now, length);
    if (end.done() && u32(context_next) == 1) {
      // There is no next handler here: the request ends as 404, which handle_response may still look at and change.
      if (!response.committed) response.plain(404, "the handler passed the request on, and there is no next handler\n");
      exchange.response_body_at = 0;
      exchange.response_body_written = false;
      if ((exchange.features & kFeatureBufferRequest) != 0) exchange.request_body_at = 0;
      if (handle_response_) {
        const auto later = length == 0 ? now : monotonic_ns();
        const auto left = length == 0 ? 0 : later - now < length ? length - (later - now) : 1;  // one deadline for both calls
        end = runtime_.call_ii(handle_response_, u32(context_next >> 32), 0, later, left);
      }
    }
    if (end.done()) return;
    // A trap leaves the guest's own state as it was in the middle (its stack pointer, its allocator): the next request
    // gets a new instance.
    instance_ = wasm::Instance();
    runtime_.answer_failure(end, request, response);
  }

  Result<> renew() {
    instance_ = wasm::Instance();
    exchange.features_at_start = 0;
    used_ = false;
    TRY(auto made, runtime_.make_instance(GuestRuntime::Start::Yes));
    instance_ = std::move(made);
    handle_request_ = instance_.find("handle_request");
    handle_response_ = instance_.find("handle_response");
    return {};
  }

  GuestRuntime& runtime_;
  wasm::Instance instance_;
  wasm::Function handle_request_, handle_response_;
  bool used_ = false;
};

}  // namespace

std::span<const wasm::HostFunction> http_handler_functions() { return kFunctions; }
std::unique_ptr<Guest> make_http_handler_guest(GuestRuntime& runtime) { return std::make_unique<HttpHandlerGuest>(runtime); }

}  // namespace skerry::sandbox
