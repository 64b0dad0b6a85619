// SPDX-License-Identifier: Apache-2.0
#include "apiserver/call.h"

namespace skerry::apiserver {

ApiTask<> get(Call& call) {
  const ObjectPtr object = call.server.store.get(call.id(), call.route.namespace_, call.route.name);
  if (!object) co_return ApiFail(not_found(call.route));
  co_return respond_object(call, 200, object);
}

}  // namespace skerry::apiserver
