// SPDX-License-Identifier: Apache-2.0
// Container logs on the node's disk, in the layout and line format of CRI:
//
//   DIR/NAMESPACE_POD_UID/CONTAINER/ATTEMPT.log                 <rfc3339nano> stdout F text
//                                   ATTEMPT.log.20261123-101500 rotated, oldest first by name
//
// Sandboxes append by themselves (one write a line), so a log needs no living agent. The agent opens files, rotates them by
// size (rename, open anew, tell the keeper), keeps the present attempt and the one before, and answers `kubectl logs`.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "http/message.h"
#include "os/fd.h"

namespace skerry::agent {

struct LogPlace {
  std::string namespace_, pod, uid, container;
};

class LogFolder {
 public:
  struct Options {
    std::filesystem::path folder;
    std::uint64_t bytes_max = 10 << 20;  // of one file
    std::uint32_t files_max = 5;         // of one attempt, the present one included
  };
  explicit LogFolder(Options options) : options_(std::move(options)) {}

  // The file of this attempt, for appending; made with its folders. Files of attempts before the last one go.
  Result<os::UniqueFd> open(const LogPlace&, std::uint32_t attempt) const;
  // True when the file has reached its size and was renamed: open() gives the new one, which the writer must be told.
  Result<bool> rotate(const LogPlace&, std::uint32_t attempt, Time now) const;
  // All that a pod wrote.
  Result<> remove(std::string_view namespace_, std::string_view pod, std::string_view uid) const;
  // Rotated files of an attempt, oldest first, then the present one. May be empty.
  std::vector<std::filesystem::path> files(const LogPlace&, std::uint32_t attempt) const;
  // Folders of pods that `keep` (by uid) does not want; after a start.
  void collect(const std::function<bool(std::string_view uid)>& keep) const;

 private:
  std::filesystem::path container_folder(const LogPlace&) const;
  Options options_;
};

struct LogQuery {
  std::optional<std::uint64_t> tail_lines = {}, limit_bytes = {};
  std::optional<Time> since = {};
  bool timestamps = false, follow = false, previous = false;
  // Query parameters as the API server passes them on. Invalid: a value that is none.
  static Result<LogQuery> parse(const http::Target&, Time now);
};

// CRI lines in, what kubectl prints out. Lines that are not CRI's are passed on as they are (their time is unknown).
class LogDecoder {
 public:
  explicit LogDecoder(const LogQuery& query) : timestamps_(query.timestamps), since_(query.since), left_(query.limit_bytes) {}
  // Appends what `bytes` completes. A line over 64 KiB is passed on in parts.
  void feed(std::string_view bytes, std::string& out);
  bool done() const { return left_ && *left_ == 0; }  // limitBytes is used up

 private:
  static constexpr std::size_t kLineMax = 64 << 10;
  void line(std::string_view, std::string& out);
  void emit(std::string_view, std::string& out);
  bool timestamps_;
  std::optional<Time> since_;
  std::optional<std::uint64_t> left_;
  std::string rest_;
  bool in_partial_ = false;  // the last line was a P: what follows continues it
};

// Where the last `lines` lines begin, counted over all files: index of the file and offset in it.
struct LogStart {
  std::size_t file = 0;
  std::uint64_t offset = 0;
};
LogStart find_tail(const std::vector<std::filesystem::path>&, std::uint64_t lines);

// The files of one attempt now, oldest first (LogFolder::files).
using LogFiles = std::function<std::vector<std::filesystem::path>()>;

// The response's body, read in pieces as they are sent. A followed log goes on over rotations, in order, whatever the speed
// of its reader, and ends when `alive` says that no more can come and all that is there was sent.
std::unique_ptr<http::Stream> open_log_stream(LogFiles, const LogQuery&, std::function<bool()> alive);

}  // namespace skerry::agent
