// SPDX-License-Identifier: Apache-2.0
// Events that the API server itself has to report about a node: what it refused, and why somebody should look. Counted on one
// object for each reason and text, and written at most once a minute each, since refused writers come again and again.
#pragma once
#include "apiserver/call.h"

namespace skerry::apiserver {

// Failures are logged: an Event is never the reason for one.
rt::asio::awaitable<void> warn_about_node(Server&, std::string node, std::string reason, std::string message);

}  // namespace skerry::apiserver
