// SPDX-License-Identifier: Apache-2.0
// One function per subcommand. Each returns the process' exit code; what failed is on standard error as one sentence.
#pragma once
#include "cli/options.h"

namespace skerry::cli {

int cmd_up(const UpOptions&);
int cmd_server(const ServerOptions&);
int cmd_node(const NodeOptions&);
int cmd_run(const RunOptions&);
int cmd_image_add(const ImageAddOptions&);
int cmd_image_list(const ImageListOptions&);
int cmd_image_remove(const ImageRemoveOptions&);
int cmd_image_pull(const ImagePullOptions&);
int cmd_image_push(const ImagePushOptions&);
int cmd_image_inspect(const ImageInspectOptions&);
int cmd_image_pin(const ImagePinOptions&);

// "skerry: <sentence>" on standard error, and kExitFailed.
int fail(const Error&);

}  // namespace skerry::cli
