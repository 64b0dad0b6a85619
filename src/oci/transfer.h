// SPDX-License-Identifier: Apache-2.0
// One registry endpoint over libcurl: requests with its token dance, and downloads that go on where they broke off. Only
// skerry-registry links it. Blocking; one thread.
// https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/time.h"
#include "oci/manifest.h"
#include "oci/pull_wire.h"

namespace skerry::oci {

class Transfer {
 public:
  struct Answer {
    long status = 0;
    std::string body{}, media_type{}, digest{}, location{};
  };
  using OnBytes = std::function<void(std::uint64_t)>;  // bytes that came, or went, over the line since the last call

  // `endpoint` and what `repository` and `action` ("pull", "pull,push") name are what a token is asked for.
  Transfer(const RegistryEndpoint& endpoint, std::string repository, std::string action, Duration stall_timeout, OnBytes);
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // A whole answer of at most kManifestBytesMax, of get() a JSON object. Statuses from 200 to 299 are answers; 401, 403: Denied;
  // 404: NotFound; others, what no registry says (a captive portal does), and a line that does not carry: Unavailable. After a
  // redirect a refusal is Unavailable too, and gets no credentials. `path` begins with "/v2/".
  Result<Answer> get(const std::string& path, std::string_view accept);
  Result<Answer> head(const std::string& path, std::string_view accept = {});
  Result<Answer> send(std::string_view method, const std::string& url_or_path, std::string_view media_type, std::string_view body);
  // The blob at `to`, whole and verified (not synced: who keeps it copies it); what is there already is not fetched again. Corrupt: not the digest.
  Result<> download(const std::string& path, const Descriptor&, const std::filesystem::path& to);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skerry::oci
