// SPDX-License-Identifier: Apache-2.0
#include "oci/digest.h"

#include <openssl/evp.h>

#include <array>

#include "base/check.h"
#include "base/text.h"

namespace skerry::oci {

struct Digester::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() = default;
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Digester::Digester() : state_(std::make_unique<State>()) { reset(); }
Digester::~Digester() = default;
void Digester::reset() { CHECK(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1); }
void Digester::add(std::string_view bytes) { CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1); }
std::string Digester::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned size = 0;
  CHECK(EVP_DigestFinal_ex(state_->context, hash.data(), &size) == 1);
  return "sha256:" + to_hex({reinterpret_cast<const char*>(hash.data()), size});
}

std::string digest_of(std::string_view bytes) {
  Digester digester;
  digester.add(bytes);
  return digester.finish();
}

}  // namespace skerry::oci
