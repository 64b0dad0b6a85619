// SPDX-License-Identifier: Apache-2.0
#include "oci/pull_wire.h"

#include <algorithm>
#include <array>
#include <format>

#include "kube/json.h"

namespace skerry::oci {
namespace {

using kube::Json;
using kube::MutJson;
constexpr std::array kCodes = {Errc::NotFound, Errc::AlreadyExists, Errc::Conflict, Errc::Gone,        Errc::Invalid,  Errc::Unsupported, Errc::Denied,
                               Errc::Unauthenticated, Errc::Exhausted, Errc::Unavailable, Errc::Timeout, Errc::Cancelled, Errc::Corrupt, Errc::Internal};
constexpr std::size_t kTextBytesMax = 4096, kWordsMax = 1024;

void set_words(MutJson to, std::string_view name, const std::vector<std::string>& words) {
  MutJson list = to.array(name);
  for (const auto& word : words) list.push(word);
}
std::vector<std::string> words_of(Json list) {
  std::vector<std::string> out;
  for (const Json word : list.items())
    if (word.is_string() && out.size() < kWordsMax) out.emplace_back(word.str());
  return out;
}
void set_size(MutJson to, std::string_view name, std::uint64_t value) { to.set(name, static_cast<std::int64_t>(value)); }
std::uint64_t size_of(Json from, std::string_view name) { return static_cast<std::uint64_t>(std::max<std::int64_t>(from[name].i64(), 0)); }

}  // namespace

std::string to_json(const RegistryJob& job) {
  kube::JsonEdit edit;
  MutJson root = edit.root();
  root.set("task", job.task == RegistryTask::Pull ? "pull" : "push");
  root.set("reference", job.reference.text());
  MutJson endpoints = root.array("endpoints");
  for (const auto& endpoint : job.endpoints) {
    MutJson one = endpoints.push_object();
    one.set("url", endpoint.url);
    one.set("ca", endpoint.ca_pem);
    one.set("certificate", endpoint.certificate_pem);
    one.set("key", endpoint.key_pem);
    one.set("verify", endpoint.verify);
    MutJson credentials = one.array("credentials");
    for (const auto& credential : endpoint.credentials) {
      MutJson c = credentials.push_object();
      c.set("username", credential.username);
      c.set("password", credential.password);
      c.set("identityToken", credential.identity_token);
    }
  }
  root.set("folder", job.folder.string());
  root.set("have", job.have);
  root.set("moduleFd", job.module_fd);
  root.set("architecture", job.architecture);
  set_size(root, "moduleBytesMax", job.module_bytes_max);
  set_size(root, "layerBytesMax", job.layer_bytes_max);
  set_size(root, "unpackedBytesMax", job.unpacked_bytes_max);
  root.set("stallTimeoutMs", std::chrono::duration_cast<std::chrono::milliseconds>(job.stall_timeout).count());
  return edit.dump();
}

Result<RegistryJob> parse_job(std::string_view json) {
  TRY(const auto doc, kube::JsonDoc::parse(json));
  const Json root = doc.root();
  RegistryJob out;
  out.task = root["task"].str() == "push" ? RegistryTask::Push : RegistryTask::Pull;
  TRY(out.reference, Reference::parse(root["reference"].str()));
  for (const Json one : root["endpoints"].items()) {
    RegistryEndpoint endpoint{.url = std::string(one["url"].str()), .ca_pem = std::string(one["ca"].str()), .certificate_pem = std::string(one["certificate"].str()),
                              .key_pem = std::string(one["key"].str()), .verify = one["verify"].boolean(true)};
    for (const Json c : one["credentials"].items())
      endpoint.credentials.push_back({.username = std::string(c["username"].str()), .password = std::string(c["password"].str()), .identity_token = std::string(c["identityToken"].str())});
    out.endpoints.push_back(std::move(endpoint));
  }
  out.folder = root["folder"].str();
  out.have = root["have"].str();
  out.module_fd = static_cast<int>(root["moduleFd"].i64(-1));
  out.architecture = root["architecture"].str();
  out.module_bytes_max = size_of(root, "moduleBytesMax");
  out.layer_bytes_max = size_of(root, "layerBytesMax");
  out.unpacked_bytes_max = size_of(root, "unpackedBytesMax");
  out.stall_timeout = std::chrono::milliseconds(root["stallTimeoutMs"].i64(30'000));
  if (out.endpoints.empty()) return Fail({Errc::Invalid, "the job names no endpoint"});
  return out;
}

std::string to_json(const RegistryAnswer& answer) {
  kube::JsonEdit edit;
  MutJson root = edit.root();
  if (const auto* progress = std::get_if<answer::Progress>(&answer)) {
    root.set("answer", "progress");
    set_size(root, "bytes", progress->bytes);
    set_size(root, "of", progress->of);
  } else if (const auto* same = std::get_if<answer::Same>(&answer)) {
    root.set("answer", "same");
    root.set("manifest", same->manifest);
  } else if (const auto* pulled = std::get_if<answer::Pulled>(&answer)) {
    root.set("answer", "pulled");
    root.set("file", pulled->file);
    root.set("module", pulled->module);
    root.set("manifest", pulled->manifest);
    set_size(root, "fetched", pulled->fetched);
    set_words(root, "arguments", pulled->arguments);
    set_words(root, "env", pulled->env);
  } else if (const auto* pushed = std::get_if<answer::Pushed>(&answer)) {
    root.set("answer", "pushed");
    root.set("manifest", pushed->manifest);
  } else {
    const Error& error = std::get<Error>(answer);
    root.set("answer", "error");
    root.set("code", to_string(error.code));
    root.set("text", error.what);
  }
  return edit.dump();
}

Result<RegistryAnswer> parse_answer(std::string_view line) {
  const auto wrong = [] { return Fail({Errc::Corrupt, "the registry client answered something that is no answer"}); };
  const auto doc = kube::JsonDoc::parse(line);
  if (!doc) return wrong();
  const Json root = doc->root();
  const std::string_view kind = root["answer"].str();
  if (kind == "progress") return RegistryAnswer(answer::Progress{.bytes = size_of(root, "bytes"), .of = size_of(root, "of")});
  if (kind == "error") {
    const auto code = std::ranges::find(kCodes, root["code"].str(), [](Errc c) { return to_string(c); });
    return RegistryAnswer(Error{code == kCodes.end() ? Errc::Internal : *code, std::string(root["text"].str().substr(0, kTextBytesMax))});
  }
  const std::string manifest(root["manifest"].str());
  if (!is_digest(manifest)) return wrong();
  if (kind == "same") return RegistryAnswer(answer::Same{manifest});
  if (kind == "pushed") return RegistryAnswer(answer::Pushed{manifest});
  answer::Pulled out{.file = std::string(root["file"].str()), .module = std::string(root["module"].str()), .manifest = manifest, .fetched = size_of(root, "fetched"),
                     .arguments = words_of(root["arguments"]), .env = words_of(root["env"])};
  if (kind != "pulled" || !is_digest(out.module) || out.file.empty() || out.file.contains('/') || out.file.starts_with('.')) return wrong();
  return RegistryAnswer(std::move(out));
}

}  // namespace skerry::oci
