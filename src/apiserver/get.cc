// SPDX-License-Identifier: Apache-2.0
#include "apiserver/selection.h"

namespace skerry::apiserver {

ApiTask<> get(Call& call) {
  CO_TRY_API(const auto revision, parse_revision(call));
  CO_TRY_API_OK(check_not_in_the_future(call, revision));
  const ObjectPtr object = call.server.store.get(call.id(), call.route.namespace_, call.route.name);
  if (!object) co_return ApiFail(not_found(call.route));
  co_return respond_object(call, 200, object);
}

}  // namespace skerry::apiserver
