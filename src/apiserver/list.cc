// SPDX-License-Identifier: Apache-2.0
// Lists: the stored bytes, joined; nothing is parsed unless a Table is asked for. A list in pages is consistent: each page
// shows the revision of the first, as far as the store's history reaches back; beyond, the answer is 410.
#include <algorithm>
#include <format>

#include "apiserver/selection.h"
#include "base/text.h"
#include "kube/table.h"

namespace skerry::apiserver {
namespace {

struct Continue {
  Revision revision;
  std::string start_after;
};

std::string write_token(const Continue& token) {
  std::string text = to_base64(std::format(R"({{"v":"meta.k8s.io/v1","rv":{},"start":{}}})", token.revision.value(), kube::json_quote(token.start_after)));
  std::ranges::replace(text, '+', '-');
  std::ranges::replace(text, '/', '_');
  while (text.ends_with('=')) text.pop_back();
  return text;
}
ApiResult<Continue> read_token(std::string_view token) {
  const auto refuse = [](std::string_view why) { return ApiFail(kube::status_bad_request(std::format("invalid continue token: continue key is not valid: {}", why))); };
  if (token.size() > 4096) return refuse("too long");
  std::string text(token);
  std::ranges::replace(text, '-', '+');
  std::ranges::replace(text, '_', '/');
  while (text.size() % 4 != 0) text += '=';
  const auto bytes = from_base64(text);
  if (!bytes) return refuse("illegal base64 data");
  const auto doc = kube::JsonDoc::parse(*bytes);
  if (!doc) {
    // As Go names a byte: the character of that number.
    const auto first = bytes->empty() ? 0U : static_cast<unsigned char>(bytes->front());
    std::string shown = first < 0x80 ? std::string(1, static_cast<char>(first))
                                     : std::string{static_cast<char>(0xc0 | first >> 6), static_cast<char>(0x80 | (first & 0x3f))};
    return refuse(std::format("invalid character '{}' looking for beginning of value", shown));
  }
  const Json root = doc->root();
  if (root["v"].str() != "meta.k8s.io/v1" || root["rv"].i64() <= 0 || root["start"].str().empty()) {
    return refuse("it does not name a version and a start key");
  }
  return Continue{Revision(static_cast<std::uint64_t>(root["rv"].i64())), std::string(root["start"].str())};
}

http::Response render(const Call& call, const store::ListResult& found, const kube::ListPosition& position) {
  std::string body;
  std::size_t size = 256;
  for (const ObjectPtr& object : found.items) size += object->json_size() + 1;
  body.reserve(size);
  body += std::format(R"({{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{}")", call.type().list_kind, call.type().api_version,
                      position.revision.value());
  if (!position.continue_token.empty()) body += std::format(R"(,"continue":"{}")", position.continue_token);
  if (position.remaining > 0) body += std::format(R"(,"remainingItemCount":{})", position.remaining);
  body += R"(},"items":[)";
  bool first = true;
  for (const ObjectPtr& object : found.items) {
    if (!first) body += ',';
    first = false;
    body += *object->json();
  }
  body += "]}\n";
  return respond_json(200, std::move(body));
}

}  // namespace

ApiTask<> list(Call& call) {
  CO_TRY_API_OK(check_list_options(call));
  CO_TRY_API(const Selection selection, parse_selection(call));
  CO_TRY_API(const auto revision, parse_revision(call));
  CO_TRY_API(const std::size_t limit, parse_count(call, "limit", 0));
  CO_TRY_API(const bool table, wants_table(call));
  const std::string_view match = call.param("resourceVersionMatch"), token = call.param("continue");
  store::ListQuery query{.namespace_ = selection.namespace_, .limit = std::min(limit, call.server.options.list_items_max)};
  if (!selection.everything()) query.filter = selection.filter();
  if (query.limit == 0) query.limit = call.server.options.list_items_max;
  if (!token.empty()) {
    CO_TRY_API(const Continue from, read_token(token));
    query.start_after = from.start_after;
    query.at = from.revision;
  } else if (revision) {
    CO_TRY_API_OK(check_not_in_the_future(call, revision));
    if (match == "Exact" || (match.empty() && limit > 0)) query.at = *revision;
  }
  auto found = call.server.store.list(call.id(), query);
  if (!found && found.error().code == Errc::Gone) {
    co_return ApiFail(kube::status_gone(token.empty() ? std::format("The resourceVersion for the provided list is too old: {}", query.at->value())
                                                      : "The provided continue parameter is too old to display a consistent list result. You must start a new "
                                                        "list without the continue parameter."));
  }
  if (!found) co_return ApiFail(kube::status_of(found.error()));
  kube::ListPosition position{.revision = found->revision, .continue_token = {}, .remaining = 0};
  if (found->more) {
    position.continue_token = write_token({found->revision, found->last_key});
    if (selection.everything()) position.remaining = static_cast<std::int64_t>(found->remaining);
  }
  if (table) {
    CO_TRY_API(const auto include, kube::parse_include_object(call.param("includeObject")));
    co_return respond_json(200, kube::table_json(call.type(), found->items, position, include, call.server.clock.now()));
  }
  co_return render(call, *found, position);
}

}  // namespace skerry::apiserver
