// SPDX-License-Identifier: Apache-2.0
// The guest's output as CRI log lines, written by the sandbox itself: `<rfc3339nano> stdout F text`, one write a line.
// A line longer than kLineMax is written in parts (P … F). Text without a newline waits until one comes or flush().
#pragma once
#include <string_view>

#include "metrics/page.h"
#include "sandbox/http_message.h"

namespace skerry::sandbox {

class GuestLog {
 public:
  enum Stream : int { Out = 0, Err = 1 };
  static constexpr std::size_t kLineMax = 16u << 10;
  GuestLog(int fd, metrics::Block& block) : fd_(fd), metrics_(block) {}  // fd -1: everything is dropped, and counted
  void replace(int fd);                                                  // closes the old one
  void write(Stream, std::string_view bytes);
  void line(Stream, std::string_view text);  // one whole line, without newline
  void flush();

 private:
  void emit(Stream, std::string_view text, char tag);
  int fd_;
  metrics::Block& metrics_;
  Buffer partial_[2], out_;
  bool torn_ = false;  // the file ends in the middle of a line: there was no room for the rest
  long second_ = -1;
  char stamp_[32];
};

}  // namespace skerry::sandbox
