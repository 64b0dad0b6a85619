// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <format>
#include <utility>

#include "base/text.h"
#include "kube/json.h"

namespace skerry::client {
namespace {

constexpr std::size_t kMessageBytesMax = 4096, kCauseBytesMax = 64;

std::string_view media_type(PatchType type) {
  switch (type) {
    case PatchType::Json: return "application/json-patch+json";
    case PatchType::Merge: return "application/merge-patch+json";
    case PatchType::Strategic: return "application/strategic-merge-patch+json";
  }
  return "";
}

Errc code_of(int status, std::string_view reason) {
  static constexpr std::pair<std::string_view, Errc> kReasons[] = {
      {"NotFound", Errc::NotFound}, {"AlreadyExists", Errc::AlreadyExists}, {"Conflict", Errc::Conflict}, {"Gone", Errc::Gone},
      {"Expired", Errc::Gone}, {"Invalid", Errc::Invalid}, {"BadRequest", Errc::Invalid}, {"Forbidden", Errc::Denied},
      {"Unauthorized", Errc::Unauthenticated}, {"TooManyRequests", Errc::Exhausted}, {"RequestEntityTooLarge", Errc::Exhausted},
      {"MethodNotAllowed", Errc::Unsupported}, {"NotAcceptable", Errc::Unsupported}, {"UnsupportedMediaType", Errc::Unsupported},
      {"NotImplemented", Errc::Unsupported}, {"ServiceUnavailable", Errc::Unavailable}, {"ServerTimeout", Errc::Timeout},
      {"Timeout", Errc::Timeout}, {"InternalError", Errc::Internal}};
  for (const auto& [name, code] : kReasons)
    if (name == reason) return code;
  switch (status) {
    case 400: case 422: return Errc::Invalid;
    case 401: return Errc::Unauthenticated;
    case 403: return Errc::Denied;
    case 404: return Errc::NotFound;
    case 405: case 406: case 415: case 501: return Errc::Unsupported;
    case 409: return Errc::Conflict;
    case 410: return Errc::Gone;
    case 413: case 429: return Errc::Exhausted;
    case 502: case 503: return Errc::Unavailable;
    case 408: case 504: return Errc::Timeout;
    default: return Errc::Internal;
  }
}

// Whether somebody would drop or forget something on this answer. An API server says so in a Status; a bare 404 or 403 comes from what stands
// before it, or from one that has not begun to serve.
bool is_word_on_objects(Errc code) {
  return code == Errc::NotFound || code == Errc::Denied || code == Errc::Invalid || code == Errc::Unsupported || code == Errc::Conflict || code == Errc::AlreadyExists;
}

// A list's items may leave out what the list says for all of them.
Result<ObjectPtr> item_of(kube::Json item, const std::string& api_version, const std::string& kind) {
  if (item["kind"].is_string() && item["apiVersion"].is_string()) return kube::Object::from_json(item.dump());
  kube::JsonEdit edit;
  edit.root().set("apiVersion", api_version);
  edit.root().set("kind", kind);
  for (const auto [key, value] : item.members())
    if (key != "apiVersion" && key != "kind") edit.root().set(key, value);
  return kube::Object::from_json(edit.dump());
}

class Query {
 public:
  explicit Query(std::string path) : out_(std::move(path)) {}
  Query& add(std::string_view key, std::string_view value) {
    if (value.empty()) return *this;
    out_ += std::exchange(separator_, '&');
    out_.append(key).append("=").append(http::percent_encode(value));
    return *this;
  }
  std::string text() const { return out_; }

 private:
  std::string out_;
  char separator_ = '?';
};

}  // namespace

std::string ResourcePath::url(std::string_view namespace_, std::string_view name, std::string_view subresource) const {
  std::string out = group.empty() ? "/api/" + version : "/apis/" + group + "/" + version;
  if (namespaced && !namespace_.empty()) out += "/namespaces/" + http::percent_encode(namespace_);
  out += "/" + resource;
  if (!name.empty()) out += "/" + http::percent_encode(name);
  if (!subresource.empty()) out.append("/").append(subresource);
  return out;
}

Error error_of(int status, std::string_view body, std::string_view operation) {
  std::string message, reason;
  const auto doc = kube::JsonDoc::parse(body);
  const bool servers = doc && doc->root()["kind"].str() == "Status";
  if (servers) {
    message = doc->root()["message"].str();
    reason = doc->root()["reason"].str();
    // Why somebody was refused, in one word that programs know (agent/api_standing.h).
    if (const kube::Json causes = doc->root()["details"]["causes"]; (status == 401 || status == 403) && causes.size() > 0)
      for (const kube::Json cause : causes.items())
        if (const auto word = cause["reason"].str(); !word.empty() && word.size() <= kCauseBytesMax) {
          message.resize(std::min(message.size(), kMessageBytesMax - kCauseBytesMax - 3));
          message.append(" [").append(word).append("]");
          break;
        }
  }
  if (message.empty()) message = std::format("HTTP status {}: {}", status, trim(body.substr(0, 200)));
  message.resize(std::min(message.size(), kMessageBytesMax));
  const Errc code = code_of(status, reason);
  return {servers || !is_word_on_objects(code) ? code : Errc::Unavailable, std::format("{}: {}", operation, message)};
}

Watch::Watch(std::unique_ptr<http::Stream> stream, std::size_t event_bytes_max) : stream_(std::move(stream)), decoder_(event_bytes_max) {}

rt::Task<std::optional<WatchEvent>> Watch::next() {
  for (;;) {
    CO_TRY(auto event, decoder_.next());
    if (event) co_return event;
    CO_TRY(const auto chunk, co_await stream_->next());
    if (chunk) {
      decoder_.push(**chunk);
      continue;
    }
    if (!decoder_.empty()) co_return Fail({Errc::Unavailable, "the watch ended in the middle of an event"});
    co_return std::nullopt;
  }
}

rt::Task<http::Response> Client::exchange(std::string method, std::string target, std::string body, std::string content_type,
                                          http::BodyMode mode, http::Headers more) {
  http::Request request{.method = method, .target = std::move(target), .body = std::move(body)};
  request.headers.set("Accept", "application/json");
  if (!content_type.empty()) request.headers.set("Content-Type", content_type);
  for (const auto& [name, value] : more.all()) request.headers.set(name, value);
  const std::string operation = method + " " + request.target.substr(0, request.target.find('?'));
  auto response = co_await transport_.send(std::move(request), mode, options_.timeout);
  if (!response) co_return Fail(response.error().with(operation));
  if (response->status < 200 || response->status > 299) co_return Fail(error_of(response->status, response->text(), operation));
  co_return std::move(*response);
}

rt::Task<ObjectPtr> Client::object_exchange(std::string method, std::string target, std::string body, std::string content_type) {
  const std::string operation = method + " " + target;
  CO_TRY(const auto response, co_await exchange(std::move(method), std::move(target), std::move(body), std::move(content_type), http::BodyMode::Whole));
  auto object = kube::Object::from_json(std::string(response.text()));
  if (!object) co_return Fail({Errc::Corrupt, operation + ": the answer is no object: " + object.error().what});
  co_return std::move(*object);
}

rt::Task<http::Headers> Client::quiet_exchange(std::string method, std::string target, std::string body, std::string_view content_type, http::Headers more) {
  more.set("Prefer", "return=minimal");
  const std::string operation = method + " " + target;
  CO_TRY(auto response, co_await exchange(std::move(method), std::move(target), std::move(body), std::string(content_type), http::BodyMode::Whole, std::move(more)));
  // A page of something that stands before the server: nobody has taken what was told.
  if (const auto text = trim(response.text()); !text.empty() && text.front() != '{') co_return Fail({Errc::Unavailable, operation + ": the answer is no object"});
  co_return std::move(response.headers);
}

rt::Task<ObjectPtr> Client::get(ResourcePath path, std::string namespace_, std::string name) {
  CO_TRY(auto object, co_await object_exchange("GET", path.url(namespace_, name), "", ""));
  if (object->name() != name) co_return Fail({Errc::Corrupt, std::format("GET {}: the answer is {} \"{}\"", path.url(namespace_, name), object->kind(), object->name())});
  co_return object;
}

rt::Task<ObjectList> Client::list(ResourcePath path, std::string namespace_, Selectors selectors) {
  const std::string url = path.url(namespace_);
  ObjectList out;
  for (std::string next;;) {
    const std::string target = Query(url).add("labelSelector", selectors.label).add("fieldSelector", selectors.field)
                                   .add("limit", std::to_string(options_.list_page)).add("continue", next).text();
    CO_TRY(const auto response, co_await exchange("GET", target, "", "", http::BodyMode::Whole));
    const auto doc = kube::JsonDoc::parse(response.text());
    const kube::Json root = doc ? doc->root() : kube::Json();
    const std::string_view list_kind = root["kind"].str();
    const std::string api_version(root["apiVersion"].str());
    if (!root["items"].is_array() && !root["items"].is_null())
      co_return Fail({Errc::Corrupt, std::format("GET {}: the answer is no list{}", url, doc ? "" : ": " + doc.error().what)});
    const std::string kind(list_kind.ends_with("List") ? list_kind.substr(0, list_kind.size() - 4) : list_kind);
    if (out.items.size() + root["items"].size() > options_.list_items_max)
      co_return Fail({Errc::Exhausted, std::format("GET {}: more than {} items", url, options_.list_items_max)});
    out.items.reserve(out.items.size() + root["items"].size());
    for (const kube::Json item : root["items"].items()) {
      auto object = item_of(item, api_version, kind);
      if (!object || (*object)->name().empty())
        co_return Fail({Errc::Corrupt, std::format("GET {}: an item is no object: {}", url, object ? "it has no name" : object.error().what)});
      out.items.push_back(std::move(*object));
    }
    const auto revision = parse_int<std::uint64_t>(root["metadata"]["resourceVersion"].str());
    if (!revision) co_return Fail({Errc::Corrupt, std::format("GET {}: the list has no resourceVersion", url)});
    out.revision = Revision(*revision);
    next = root["metadata"]["continue"].str();
    if (next.empty()) co_return out;
  }
}

rt::Task<ObjectPtr> Client::create(ResourcePath path, std::string namespace_, std::string json) {
  co_return co_await object_exchange("POST", path.url(namespace_), std::move(json), "application/json");
}
rt::Task<ObjectPtr> Client::update(ResourcePath path, std::string namespace_, std::string name, std::string json) {
  co_return co_await object_exchange("PUT", path.url(namespace_, name), std::move(json), "application/json");
}
rt::Task<ObjectPtr> Client::update_status(ResourcePath path, std::string namespace_, std::string name, std::string json) {
  co_return co_await object_exchange("PUT", path.url(namespace_, name, "status"), std::move(json), "application/json");
}
rt::Task<ObjectPtr> Client::patch(ResourcePath path, std::string namespace_, std::string name, PatchType type, std::string patch) {
  co_return co_await object_exchange("PATCH", path.url(namespace_, name), std::move(patch), std::string(media_type(type)));
}
rt::Task<ObjectPtr> Client::patch_status(ResourcePath path, std::string namespace_, std::string name, PatchType type, std::string patch) {
  co_return co_await object_exchange("PATCH", path.url(namespace_, name, "status"), std::move(patch), std::string(media_type(type)));
}

rt::Task<http::Headers> Client::create_quietly(ResourcePath path, std::string namespace_, std::string json) {
  co_return co_await quiet_exchange("POST", path.url(namespace_), std::move(json), "application/json");
}
rt::Task<http::Headers> Client::patch_quietly(ResourcePath path, std::string namespace_, std::string name, PatchType type, std::string patch, http::Headers more) {
  co_return co_await quiet_exchange("PATCH", path.url(namespace_, name), std::move(patch), media_type(type), std::move(more));
}
rt::Task<http::Headers> Client::patch_status_quietly(ResourcePath path, std::string namespace_, std::string name, PatchType type, std::string patch) {
  co_return co_await quiet_exchange("PATCH", path.url(namespace_, name, "status"), std::move(patch), media_type(type));
}

rt::Task<ObjectPtr> Client::remove(ResourcePath path, std::string namespace_, std::string name, DeleteOptions options) {
  kube::JsonEdit body;
  kube::MutJson root = body.root();
  root.set("kind", "DeleteOptions");
  root.set("apiVersion", "v1");
  if (options.grace_seconds) root.set("gracePeriodSeconds", *options.grace_seconds);
  if (!options.uid.empty()) root.object("preconditions").set("uid", options.uid);
  if (!options.propagation.empty()) root.set("propagationPolicy", options.propagation);
  CO_TRY(const auto response, co_await exchange("DELETE", path.url(namespace_, name), body.dump(), "application/json", http::BodyMode::Whole));
  auto object = kube::Object::from_json(std::string(response.text()));
  if (object && (*object)->kind() == "Status") co_return ObjectPtr();
  if (!object) co_return Fail({Errc::Corrupt, std::format("DELETE {}: the answer is no object: {}", path.url(namespace_, name), object.error().what)});
  co_return std::move(*object);
}

rt::Task<std::string> Client::post(ResourcePath path, std::string namespace_, std::string name, std::string subresource, std::string json) {
  CO_TRY(const auto response,
         co_await exchange("POST", path.url(namespace_, name, subresource), std::move(json), "application/json", http::BodyMode::Whole));
  co_return std::string(response.text());
}

rt::Task<Watch> Client::watch(ResourcePath path, std::string namespace_, Selectors selectors, Revision revision, Duration timeout) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(timeout).count();
  const std::string target = Query(path.url(namespace_)).add("watch", "true").add("allowWatchBookmarks", "true")
                                 .add("resourceVersion", std::to_string(revision.value())).add("timeoutSeconds", std::to_string(seconds))
                                 .add("labelSelector", selectors.label).add("fieldSelector", selectors.field).text();
  CO_TRY(auto response, co_await exchange("GET", target, "", "", http::BodyMode::Streamed));
  if (!response.stream) co_return Fail({Errc::Corrupt, "GET " + path.url(namespace_) + ": the watch has no stream"});
  co_return Watch(std::move(response.stream), options_.watch_event_bytes_max);
}

rt::Task<std::string> Client::raw(std::string method, std::string target, std::string body, std::string content_type) {
  CO_TRY(const auto response,
         co_await exchange(std::move(method), std::move(target), std::move(body), std::move(content_type), http::BodyMode::Whole));
  co_return std::string(response.text());
}

}  // namespace skerry::client
