// SPDX-License-Identifier: Apache-2.0
// PATCH works on the newest version inside the write, so that it never meets a conflict of its own making: it answers 409
// only when the patch names a resourceVersion that is no longer the newest.
#include "kube/patch.h"

#include "apiserver/call.h"

namespace skerry::apiserver {

ApiTask<> patch(Call& call) {
  const auto how = kube::patch_type(call.header("Content-Type"));
  if (!how) {
    co_return ApiFail(kube::status_unsupported_media_type(
        "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"));
  }
  if (*how == kube::PatchType::Apply) {
    Status status = kube::status_unsupported_media_type("");
    status.message = "server-side apply is not served yet: use kubectl apply without --server-side, which sends a strategic merge patch";
    co_return ApiFail(std::move(status));
  }
  CO_TRY_API(const DryRun dry, parse_write_options(call));
  CO_TRY_API(const auto validation, parse_validation(call));
  auto made = co_await write(call.server, call.type(), call.route.namespace_, call.route.name, dry,
                             [&](const ObjectPtr& newest, Revision next) -> ApiResult<store::Outcome> {
                               if (!newest) return ApiFail(not_found(call.route));
                               const auto before = newest->parse();
                               TRY_API(const JsonEdit patched, kube::apply_patch(*how, call.type(), before.root(), call.request.body));
                               TRY_API(auto decoded, kube::decode_patched(call.type().body(), patched.root(), validation));
                               call.warnings = std::move(decoded.warnings);
                               return replace_object(call, std::move(decoded.object), newest, next);
                             });
  if (!made) co_return ApiFail(std::move(made).error());
  co_return respond_written(call, 200, *made, dry);
}

}  // namespace skerry::apiserver
