// SPDX-License-Identifier: Apache-2.0
// Digests as OCI writes them: "sha256:" and 64 lower-case hexadecimal digits.
#pragma once
#include <memory>
#include <string>
#include <string_view>

namespace skerry::oci {

std::string digest_of(std::string_view bytes);

// The same, for bytes that come in pieces.
class Digester {
 public:
  Digester();
  ~Digester();
  Digester(const Digester&) = delete;
  Digester& operator=(const Digester&) = delete;
  void add(std::string_view bytes);
  void reset();
  std::string finish();  // then reset() before the next

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skerry::oci
