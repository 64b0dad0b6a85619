// SPDX-License-Identifier: Apache-2.0
// The Kubernetes verbs over a Transport, in JSON. An answer that is not 2xx becomes an Error: its Status reason gives the
// code, its message the text. The transport must outlive the client; the client must outlive its tasks and watches.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "client/resource.h"
#include "client/watch_decoder.h"
#include "http/message.h"
#include "kube/object.h"
#include "rt/loop.h"

namespace skerry::client {

using kube::ObjectPtr;
using kube::Revision;

struct Selectors {
  std::string label{};  // "app=a,tier in (x,y)"
  std::string field{};  // "spec.nodeName=edge-1"
};
struct ObjectList {
  std::vector<ObjectPtr> items{};
  Revision revision{};  // of the list: a watch resumes from here
};
enum class PatchType : std::uint8_t { Json, Merge, Strategic };
struct DeleteOptions {
  std::optional<std::int64_t> grace_seconds{};
  std::string uid{};          // precondition, if set
  std::string propagation{};  // Background, Foreground, Orphan; empty: the server's default
};

// An open watch. Destroying it closes its connection.
class Watch {
 public:
  Watch(std::unique_ptr<http::Stream>, std::size_t event_bytes_max);
  // Nothing: the server ended the watch (its timeout): watch again from the last revision. Gone: list again.
  rt::Task<std::optional<WatchEvent>> next();

 private:
  std::unique_ptr<http::Stream> stream_;
  WatchDecoder decoder_;
};

class Client {
 public:
  struct Options {
    Duration timeout = 30s;          // for each exchange
    std::uint32_t list_page = 1000;  // items asked for at once; pages are joined here
    std::size_t list_items_max = 1'000'000;
    Duration watch_timeout = 1h;     // asked of the server, so that watches end now and then
    std::size_t watch_event_bytes_max = 8 * 1024 * 1024;
  };
  explicit Client(http::Transport& transport) : Client(transport, Options{}) {}
  Client(http::Transport& transport, Options options) : transport_(transport), options_(std::move(options)) {}

  rt::Task<ObjectPtr> get(ResourcePath, std::string namespace_, std::string name);
  // Pages until the end. Gone: the continue token expired between pages (start again).
  rt::Task<ObjectList> list(ResourcePath, std::string namespace_, Selectors = {});
  // `json` is the whole object; its namespace and name must agree with the arguments.
  rt::Task<ObjectPtr> create(ResourcePath, std::string namespace_, std::string json);
  rt::Task<ObjectPtr> update(ResourcePath, std::string namespace_, std::string name, std::string json);
  rt::Task<ObjectPtr> update_status(ResourcePath, std::string namespace_, std::string name, std::string json);
  rt::Task<ObjectPtr> patch(ResourcePath, std::string namespace_, std::string name, PatchType, std::string patch);
  rt::Task<ObjectPtr> patch_status(ResourcePath, std::string namespace_, std::string name, PatchType, std::string patch);
  // The object as it was last, or as it is now if finalizers or grace keep it; nothing if the server answered a Status.
  rt::Task<ObjectPtr> remove(ResourcePath, std::string namespace_, std::string name, DeleteOptions = {});
  // The same writes where nobody reads what comes back (RFC 7240: Prefer: return=minimal). A server that knows this answers without a
  // body; another one's body is not parsed. What is left are the answer's headers; `more` are headers of the request.
  rt::Task<http::Headers> create_quietly(ResourcePath, std::string namespace_, std::string json);
  rt::Task<http::Headers> patch_quietly(ResourcePath, std::string namespace_, std::string name, PatchType, std::string patch, http::Headers more = {});
  rt::Task<http::Headers> patch_status_quietly(ResourcePath, std::string namespace_, std::string name, PatchType, std::string patch);
  // POST to a subresource: pods/NAME/binding, serviceaccounts/NAME/token. The answer's body.
  rt::Task<std::string> post(ResourcePath, std::string namespace_, std::string name, std::string subresource, std::string json);
  // From just after `revision`; bookmarks are asked for.
  rt::Task<Watch> watch(ResourcePath path, std::string namespace_, Selectors selectors, Revision revision) {
    return watch(std::move(path), std::move(namespace_), std::move(selectors), revision, options_.watch_timeout);
  }
  rt::Task<Watch> watch(ResourcePath, std::string namespace_, Selectors, Revision revision, Duration timeout);
  // Any path: discovery, health, logs. The body of a 2xx answer.
  rt::Task<std::string> raw(std::string method, std::string target, std::string body = {}, std::string content_type = {});

  const Options& options() const { return options_; }

 private:
  rt::Task<http::Response> exchange(std::string method, std::string target, std::string body, std::string content_type,
                                    http::BodyMode, http::Headers more = {});
  rt::Task<http::Headers> quiet_exchange(std::string method, std::string target, std::string body, std::string_view content_type, http::Headers more = {});
  rt::Task<ObjectPtr> object_exchange(std::string method, std::string target, std::string body, std::string content_type);
  http::Transport& transport_;
  Options options_;
};

// The Error that an answer with this status and body stands for: by the Status' reason, else by the HTTP status. The text of a 401 or
// 403 with a cause ends with its reason: "… [MachineConflict]".
Error error_of(int status, std::string_view body, std::string_view operation);

}  // namespace skerry::client
