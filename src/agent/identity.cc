// SPDX-License-Identifier: Apache-2.0
#include "agent/identity.h"

#include <format>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "kube/json.h"
#include "pki/request.h"

namespace skerry::agent {
namespace {

using Purpose = RenewalCore::Purpose;
using Step = RenewalCore::Step;

const client::ResourcePath kRequests{"certificates.k8s.io", "v1", "certificatesigningrequests", false};

std::string_view word(Purpose p) { return p == Purpose::Client ? "client" : "serving"; }
std::string_view signer(Purpose p) { return p == Purpose::Client ? "kubernetes.io/kube-apiserver-client-kubelet" : "kubernetes.io/kubelet-serving"; }

RenewalCore::Options for_purpose(RenewalCore::Options options, Purpose purpose) {
  options.purpose = purpose;
  return options;
}

std::string request_object(std::string_view name, Purpose purpose, std::string_view pem) {
  kube::JsonEdit edit;
  kube::MutJson root = edit.root();
  root.set("apiVersion", "certificates.k8s.io/v1");
  root.set("kind", "CertificateSigningRequest");
  root.object("metadata").set("name", name);
  kube::MutJson spec = root.object("spec");
  spec.set("request", to_base64(pem));
  spec.set("signerName", signer(purpose));
  kube::MutJson usages = spec.array("usages");
  usages.push("digital signature");
  usages.push(purpose == Purpose::Client ? "client auth" : "server auth");
  return edit.dump();
}

}  // namespace

Identity::Identity(rt::Loop& loop, Deps deps, Options options)
    : deps_(std::move(deps)),
      options_(std::move(options)),
      client_(loop, for_purpose(options_.renewal, Purpose::Client), deps_.random),
      serving_(loop, for_purpose(options_.renewal, Purpose::Serving), deps_.random),
      tasks_(loop) {}

void Identity::start() {
  if (const auto folder = IdentityFolder::open(options_.folder)) folder->sweep();
  tasks_.spawn("client certificate", run(Purpose::Client));
  tasks_.spawn("serving certificate", run(Purpose::Serving));
}

Result<> Identity::set(Purpose purpose, std::optional<Managed> managed, std::vector<std::string> authorities) {
  Part& p = part(purpose);
  std::optional<RenewalCore::Managed> out;
  if (managed) {
    out.emplace(RenewalCore::Managed{.current = std::nullopt, .key_kept = managed->key_kept, .wanted = std::move(managed->wanted)});
    if (!managed->pair.certificate_pem.empty()) {
      TRY(out->current, pki::inspect_certificate(managed->pair.certificate_pem));
    }
    p.shown = std::move(managed->pair);
  }
  authorities_ = std::move(authorities);
  p.core.set(std::move(out));
  p.changed.set();
  return {};
}

void Identity::on_standing(Standing standing) {
  const bool answered = standing != Standing::Away && standing != Standing::Unknown;
  client_.core.set_line(answered);
  // A node that is refused cannot have anything signed that is not its own renewal.
  serving_.core.set_line(standing == Standing::Known);
  if (standing == Standing::Ended || standing == Standing::Unknowing) {
    client_.core.suspect();
    // Somebody may have put new credentials there already: `skerry server`, or the operator.
    if (auto done = deps_.take_up(); !done) LOG_WARN("certificates not read again: those in use stay", {"error", done.error()});
  } else if (standing == Standing::Known) {
    client_.core.trust();
  }
  client_.changed.set();
  serving_.changed.set();
}

void Identity::tell(Part& p, std::optional<RenewalCore::Note> note) {
  if (!note) return;
  if (note->warning) {
    ++p.failed;
    LOG_WARN("node certificate not renewed", {"what", note->reason}, {"reason", note->text});
  } else {
    LOG_INFO("node certificate", {"what", note->reason}, {"reason", note->text});
  }
  if (post_)
    post_({.warning = note->warning, .kind = "Node", .object = {.uid = options_.node_name, .namespace_ = "", .name = options_.node_name}, .field_path = "",
           .reason = std::string(note->reason), .message = std::move(note->text)});
}

rt::Task<> Identity::run(Purpose purpose) {
  Part& p = part(purpose);
  for (;;) {
    p.changed.reset();
    const Step step = p.core.poll(deps_.clock.now(), deps_.clock.instant());
    switch (step.what) {
      case Step::What::Wait: CO_TRY_OK(co_await p.changed.wait_for(step.wait)); break;
      case Step::What::Ask:
        LOG_INFO("node certificate asked for", {"purpose", word(purpose)}, {"because", step.reason}, {"key", step.key == RenewalCore::KeyChoice::Same ? "the same" : "a new one"});
        CO_TRY_OK(co_await ask(purpose, step.key));
        break;
      case Step::What::Read: CO_TRY_OK(co_await read(purpose)); break;
      case Step::What::Take: CO_TRY_OK(co_await take(purpose)); break;
    }
  }
}

rt::Task<> Identity::ask(Purpose purpose, RenewalCore::KeyChoice choice) {
  Part& p = part(purpose);
  const bool same = choice == RenewalCore::KeyChoice::Same;
  auto key = same ? Result<std::string>(p.shown.key_pem) : pki::make_key();
  auto fingerprint = key ? pki::fingerprint_of(*key) : Result<std::string>(Fail(key.error()));
  auto request = fingerprint ? pki::make_request(*key, p.core.managed()->wanted) : Result<std::string>(Fail(fingerprint.error()));
  if (!request) {
    tell(p, p.core.on_ask_failed(request.error(), deps_.clock.instant()));
    co_return Result<>{};
  }
  std::string name = std::format("node-{}-{}-{}", word(purpose), options_.node_name, make_name_suffix(deps_.random, 8));
  auto made = co_await deps_.api.create(kRequests, "", request_object(name, purpose, *request));
  if (!made) {
    tell(p, p.core.on_ask_failed(made.error(), deps_.clock.instant()));
    co_return Result<>{};
  }
  p.key_pem = std::move(*key);
  p.key_kept = same;
  p.request = name;
  p.core.on_asked(std::move(name), std::move(*fingerprint), deps_.clock.instant());
  co_return Result<>{};
}

rt::Task<> Identity::read(Purpose purpose) {
  Part& p = part(purpose);
  auto object = co_await deps_.api.get(kRequests, "", p.request);
  if (!p.core.in_hand()) co_return Result<>{};  // meanwhile it became somebody else's
  if (!object) {
    tell(p, p.core.on_read_failed(object.error(), deps_.clock.instant()));
    co_return Result<>{};
  }
  const kube::JsonDoc doc = (*object)->parse();
  tell(p, p.core.on_answer(RenewalCore::read(doc.root()), deps_.clock.now(), deps_.clock.instant()));
  co_return Result<>{};
}

rt::Task<> Identity::take(Purpose purpose) {
  Part& p = part(purpose);
  StoredCertificate stored{.pair = {p.core.held(), p.key_pem}, .authorities = authorities_, .key_kept = p.key_kept};
  auto saved = co_await deps_.disk.run<void>([folder = options_.folder, purpose, stored]() -> Result<> {
    TRY(const auto opened, IdentityFolder::open(folder));
    return opened.save(purpose, stored);
  });
  // On the disk: from here on it may be shown, whatever happens.
  auto used = saved ? deps_.take_up() : Result<>(Fail(saved.error()));
  if (!used) {
    tell(p, p.core.on_not_taken(used.error(), deps_.clock.instant()));
    co_return Result<>{};
  }
  p.core.on_taken();
  ++p.renewed;
  p.key_pem.clear();
  const auto info = pki::inspect_certificate(stored.pair.certificate_pem);
  LOG_INFO("node certificate renewed", {"purpose", word(purpose)}, {"key", p.key_kept ? "the same" : "a new one"}, {"until", info ? to_rfc3339(info->not_after) : ""});
  co_return Result<>{};
}

void Identity::write_metrics(metrics::Exposition& out) const {
  const Time now = deps_.clock.now();
  const auto ttl = [&](std::string_view name, std::string_view help, const Part& p) {
    const auto& managed = p.core.managed();
    if (!managed || !managed->current) return;
    out.family(name, metrics::Type::Gauge, help);
    out.sample({}, std::chrono::duration<double>(managed->current->not_after - now).count());
  };
  ttl("kubelet_certificate_manager_client_ttl_seconds", "Seconds until the node's client certificate ends; negative: since", client_);
  ttl("kubelet_certificate_manager_server_ttl_seconds", "Seconds until the node's serving certificate ends; negative: since", serving_);
  const auto counted = [&](std::string_view name, std::string_view help, std::uint64_t Part::*value) {
    out.family(name, metrics::Type::Counter, help);
    out.sample({{"purpose", "client"}}, client_.*value);
    out.sample({{"purpose", "serving"}}, serving_.*value);
  };
  counted("skerry_agent_certificates_renewed_total", "Certificates of the node that were renewed by its own request", &Part::renewed);
  counted("skerry_agent_certificate_renewals_failed_total", "Renewals that failed in another way than before", &Part::failed);
}

}  // namespace skerry::agent
