// SPDX-License-Identifier: Apache-2.0
// A watch's bytes into events: one JSON object a line, in chunks cut anywhere. Pure; fuzzed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "kube/object.h"

namespace skerry::client {

struct WatchEvent {
  enum class Type : std::uint8_t { Added, Modified, Deleted, Bookmark };
  Type type{};
  kube::ObjectPtr object{};   // null for a bookmark
  kube::Revision revision{};  // of the object, or of the bookmark
};

class WatchDecoder {
 public:
  explicit WatchDecoder(std::size_t event_bytes_max = 8 * 1024 * 1024) : event_bytes_max_(event_bytes_max) {}
  void push(std::string_view bytes);
  // The next whole event; nothing: push more. An ERROR event is the Error that it carries (Gone for 410). Corrupt: not an
  // event, or longer than the limit. After an error the decoder is spent.
  Result<std::optional<WatchEvent>> next();
  bool empty() const { return at_ == buffer_.size(); }  // no half event is left

 private:
  std::size_t event_bytes_max_;
  std::string buffer_;
  std::size_t at_ = 0;       // what lies before it is consumed
  std::size_t scanned_ = 0;  // no line end lies between at_ and here
};

}  // namespace skerry::client
