// SPDX-License-Identifier: Apache-2.0
// One request on its way: what was asked, by whom, and the things every verb needs. Internal to apiserver/.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apiserver/apiserver.h"
#include "apiserver/node_identities.h"
#include "apiserver/node_references.h"
#include "kube/codec.h"
#include "kube/json.h"
#include "kube/resources.h"
#include "kube/status.h"
#include "kube/validation.h"

namespace skerry::apiserver {

using kube::ApiFail;
using kube::ApiResult;
using kube::Json;
using kube::JsonEdit;
using kube::MutJson;
using kube::ObjectPtr;
using kube::ResourceType;
using kube::Revision;
using kube::Status;

// A coroutine whose failure is an answer. CO_TRY_API is its TRY.
template <class T = http::Response>
using ApiTask = rt::asio::awaitable<ApiResult<T>>;

// What the path and the method say.
struct Route {
  std::string verb;  // get list watch create update patch delete deletecollection
  std::string group, version, resource;  // as in the path, also when they are not served
  const ResourceType* type = nullptr;
  std::string namespace_, name, subresource;
};
// Nothing: not a path of a resource. The type is null where the resource is unknown.
std::optional<Route> parse_route(std::string_view method, const http::Target& target);

enum class DryRun : std::uint8_t { No, All };

// Everything that outlives a request.
struct Server {
  store::Store& store;
  const Clock& clock;
  Random& random;
  Options options;
  std::size_t watches = 0;
  std::map<const ResourceType*, std::size_t> watches_of = {};  // the same, by what they watch
  NodeIdentities identities;
  NodeReferences references{};
  std::uint64_t certificates_refused = 0, machines_refused = 0;  // replaced ones; second machines of one name
  std::map<std::string, Instant> warned = {};  // when an Event about a node was last written, by its name
  std::uint32_t service_base = 0, service_mask = 0, cluster_dns = 0;
  std::function<std::string()> ready_check;
  std::map<std::string, http::Chunk> documents;  // OpenAPI and discovery, made when first asked for

  store::ResourceId id(const ResourceType& type) const;
  store::ResourceId id(std::string_view qualified) const;
};

struct Call {
  Server& server;
  User user;
  Route route;
  http::Target target;
  http::Request request;
  std::vector<std::string> warnings = {};

  const ResourceType& type() const { return *route.type; }
  store::ResourceId id() const { return server.id(*route.type); }
  std::string_view param(std::string_view name) const { return target.param(name); }
  std::string_view header(std::string_view name) const { return request.headers.get(name); }
};

// --- answers
http::Response respond(const Status&);
http::Response respond_json(int status, std::string body);
http::Response respond_object(int status, const ObjectPtr&);  // the stored bytes themselves
// The object, or a Table of it if the client asks for that.
ApiResult<http::Response> respond_object(const Call&, int status, const ObjectPtr&);
// The answer to a write: as above; but 204 without a body where that was asked for (RFC 7240, `Prefer: return=minimal`) of what is
// written often and read by others: Leases, Events and every status. A dry run and a Table are always answered whole.
ApiResult<http::Response> respond_written(const Call&, int status, const ObjectPtr&, DryRun);
void add_warnings(http::Response&, const std::vector<std::string>&);
// Does Accept name a Table before plain JSON? 406 if it names nothing that is served.
ApiResult<bool> wants_table(const Call&);

// --- query parameters
// A boolean one, as Kubernetes reads it: there, and neither 0 nor false.
bool is_set(const http::Target&, std::string_view name);
// What every write may say: dryRun, fieldManager, force. The manager is checked and not kept.
ApiResult<DryRun> parse_write_options(const Call&);
ApiResult<kube::FieldValidation> parse_validation(const Call&);

// --- writing
// The bytes of `object` at a revision: sets resourceVersion, drops managedFields.
std::string seal(const ResourceType&, MutJson object, Revision);
// Runs `change` against the newest version: under DryRun the outcome is answered but not stored. `change` may refuse.
using Change = std::move_only_function<ApiResult<store::Outcome>(const ObjectPtr& newest, Revision next)>;
ApiTask<ObjectPtr> write(Server&, const ResourceType&, std::string namespace_, std::string name, DryRun, Change);
Status not_found(const Route&);
Status conflict(const Route&, std::string_view text);
Status invalid(const ResourceType&, std::string_view name, const kube::FieldErrors&);

// --- the verbs, one file each
ApiTask<> get(Call&);
ApiTask<> list(Call&);
ApiTask<> watch(Call&);
ApiTask<> create(Call&);
ApiTask<> update(Call&);
ApiTask<> patch(Call&);
ApiTask<> remove(Call&);
ApiTask<> remove_collection(Call&);
ApiTask<> scale(Call&);     // get, update and patch of …/scale
ApiTask<> bind(Call&);      // POST pods/NAME/binding
ApiTask<> evict(Call&);     // POST pods/NAME/eviction
ApiTask<> log(Call&);       // GET pods/NAME/log
ApiTask<> finalize(Call&);  // PUT namespaces/NAME/finalize
// SelfSubjectAccessReview, SelfSubjectRulesReview, SelfSubjectReview: what the asker may, and who it is. Nothing is stored.
bool is_review(const Route&);
ApiTask<> review(Call&);
// Is this a group that Kubernetes has, or may have? Paths of others do not exist.
bool is_of_kubernetes(std::string_view group);
// 404, with a sentence where Kubernetes has such a resource and this server has not.
Status unserved_resource(const Route&);
// Documents: discovery, OpenAPI, version, health. Nothing: not one of theirs.
std::optional<http::Response> document(Server&, const http::Target& target, std::string_view accept);

// --- shared between verbs
// An update of the whole object or its status: the rules that PUT and PATCH have in common. `object` is decoded.
ApiResult<store::Outcome> replace_object(Call&, JsonEdit object, const ObjectPtr& old, Revision next);
struct DeleteRequest {
  std::optional<std::int64_t> grace_seconds;
  std::string propagation, uid, resource_version;
};
ApiResult<DeleteRequest> parse_delete_options(Call&);
// What a deletion does to this object: marks it, or takes it away.
ApiResult<store::Outcome> delete_object(Call&, const DeleteRequest&, const ObjectPtr& old, Revision next);

}  // namespace skerry::apiserver
