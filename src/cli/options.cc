// SPDX-License-Identifier: Apache-2.0
#include "cli/options.h"

#include <arpa/inet.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <format>
#include <sstream>

#include "base/text.h"
#include "kube/names.h"
#include "kube/quantity.h"

#ifndef SKERRY_VERSION
#error "SKERRY_VERSION comes from CMake"
#endif

namespace skerry::cli {
namespace {

// Each validator returns "" or the sentence that CLI11 prints behind the option's name; the option's type_name() says in the
// help what is meant.
template <class F>
CLI::Validator checked(F parse) {
  return CLI::Validator(
      [parse](std::string& text) {
        const auto result = parse(text);
        return result ? std::string() : result.error().what;
      },
      "");
}

const auto kEndpoint = [] { return checked([](const std::string& t) { return parse_endpoint(t); }); };
// Of the API: its port is written into kubeconfigs, so it must be known before it is bound.
const auto kFixedEndpoint = [] {
  return checked([](const std::string& t) -> Result<> {
    TRY(const auto endpoint, parse_endpoint(t));
    if (endpoint.port == 0) return Fail({Errc::Invalid, "port 0 would be another one at each start, and kubeconfigs name it; give a port from 1 to 65535"});
    return {};
  });
};
CLI::Validator port_from(int least) {
  return checked([least](const std::string& t) -> Result<> {
    const auto port = parse_int<int>(t);
    if (!port || *port < least || *port > 65535) return Fail({Errc::Invalid, std::format("\"{}\" is not a port; give a number from {} to 65535", t, least)});
    return {};
  });
}
const auto kOvercommit = [] { return checked([](const std::string& t) { return parse_overcommit(t, {}); }); };
const auto kMemory = [] { return checked([](const std::string& t) { return parse_memory(t); }); };
const auto kFolder = [] {
  return checked([](const std::string& t) -> Result<> {
    std::error_code ignored;
    if (t.empty()) return Fail({Errc::Invalid, "an empty name is no folder"});
    if (std::filesystem::exists(t, ignored) && !std::filesystem::is_directory(t, ignored))
      return Fail({Errc::Invalid, std::format("{} is there and is no folder", t)});
    return {};
  });
};
const auto kCidr = [] {
  return checked([](const std::string& t) -> Result<> {
    const auto parts = split(t, '/');
    in_addr address{};
    const auto bits = parts.size() == 2 ? parse_int<int>(parts[1]) : std::nullopt;
    if (!bits || *bits < 8 || *bits > 30 || inet_pton(AF_INET, std::string(parts[0]).c_str(), &address) != 1)
      return Fail({Errc::Invalid, std::format("\"{}\" is not an IPv4 range; write it as 10.42.0.0/16", t)});
    return {};
  });
};
const auto kIpv4 = [] {
  return checked([](const std::string& t) -> Result<> {
    if (!os::Ipv4::parse(t)) return Fail({Errc::Invalid, std::format("\"{}\" is not an IPv4 address; write it as 10.43.0.10", t)});
    return {};
  });
};
// A Service's longest name, of three labels of 63 and "svc", must fit in front of it.
const auto kDomain = [] {
  return checked([](const std::string& t) -> Result<> {
    constexpr std::size_t kDomainMax = 57;
    if (t.size() > kDomainMax || !kube::check_dns1123_subdomain(t).empty())
      return Fail({Errc::Invalid, std::format("\"{}\" is not a domain of at most {} lower case characters; write it as cluster.local", t, kDomainMax)});
    return {};
  });
};
const auto kDuration = [] {
  return checked([](const std::string& t) -> Result<> {
    const auto d = parse_duration(t);
    if (!d || *d <= Duration::zero()) return Fail({Errc::Invalid, std::format("\"{}\" is not a duration; write it as 500ms, 30s or 2m", t)});
    return {};
  });
};
const auto kLeasePeriod = [] {
  return checked([](const std::string& t) -> Result<> {
    const auto d = parse_duration(t);
    if (!d || *d < 5s || *d > 60s || *d % 1s != Duration::zero())
      return Fail({Errc::Invalid, std::format("\"{}\" is no lease period; write whole seconds from 5s to 60s: more often wears the line, and rarer its connection would not be kept", t)});
    return {};
  });
};
const auto kEnv = [] {
  return checked([](const std::string& t) -> Result<> {
    if (t.find('=') == std::string::npos || t.starts_with('='))
      return Fail({Errc::Invalid, std::format("\"{}\" sets no variable; write it as NAME=VALUE", t)});
    return {};
  });
};

// Raw texts of options whose type is not CLI11's; turned into values after parsing.
struct Texts {
  std::string listen, overcommit, lease_period, run_listen, deadline, memory, on_exit = "keep";
};

void add_data_dir(CLI::App& app, std::filesystem::path& path) {
  app.add_option("--data-dir", path, "Folder of all state, keys and images")->check(kFolder())->type_name("FOLDER")->capture_default_str();
}

void add_ranges(CLI::App& app, std::string& pods, std::string& services) {
  app.add_option("--pod-cidr", pods, "Addresses of pods")->check(kCidr())->type_name("CIDR")->capture_default_str();
  app.add_option("--service-cidr", services, "Addresses of Services")->check(kCidr())->type_name("CIDR")->capture_default_str();
}

void add_cluster_dns(CLI::App& app, std::string& address) {
  app.add_option("--cluster-dns", address, "Address of the Service range at which the node's name server answers [its tenth]")
      ->check(kIpv4())
      ->type_name("ADDRESS");
}

void add_server_options(CLI::App& app, ServerOptions& o, Texts& texts) {
  app.add_option("--listen", texts.listen, "Address of the Kubernetes API [127.0.0.1:6443]")->check(kFixedEndpoint())->type_name("ADDRESS:PORT");
  app.add_option("--tls-name", o.tls_names, "A further name or address for the server's certificate (may be repeated)")->type_name("NAME");
  app.add_option("--token-auth-file", o.token_file, "Bearer tokens, a line each: TOKEN,USER,UID[,\"GROUP,GROUP\"]")
      ->check(CLI::ExistingFile.description(""))
      ->type_name("FILE");
  add_ranges(app, o.pod_cidr, o.service_cidr);
  add_cluster_dns(app, o.cluster_dns);
}

void add_registries(CLI::App& app, std::filesystem::path& path) {
  app.add_option("--registries", path, "Mirrors, authorities and credentials of registries, as K3s' registries.yaml [/etc/skerry/registries.yaml]")
      ->check(CLI::ExistingFile.description(""))
      ->type_name("FILE");
}

void add_registry_options(CLI::App& app, std::filesystem::path& registries, std::filesystem::path& auth_file) {
  add_registries(app, registries);
  app.add_option("--auth-file", auth_file, "Credentials, as `docker login` keeps them (~/.docker/config.json is not read by itself)")
      ->check(CLI::ExistingFile.description(""))
      ->type_name("FILE");
}

void add_node_options(CLI::App& app, NodeOptions& o, Texts& texts, std::string_view overcommit_default) {
  app.add_option("--node-name", o.node_name, "Name of this node [the host name]")->type_name("NAME");
  app.add_option("--node-address", o.node_address, "Address that the node reports [the one that routes to the server]")
      ->check(checked([](const std::string& t) { return parse_endpoint((t.find(':') == std::string::npos ? t : "[" + t + "]") + ":1"); }))
      ->type_name("ADDRESS");
  app.add_option("--overcommit", texts.overcommit,
                 std::format("How many times its CPU and memory the node offers; idle pods use nothing [{}]", overcommit_default))
      ->check(kOvercommit())
      ->type_name("cpu=N,memory=N");
  app.add_option("--port", o.port, "Port of the node's own API (logs, metrics)")->check(port_from(1))->type_name("PORT")->capture_default_str();
  app.add_option("--local-port", o.local_port, "Loopback port on which this node itself answers kubectl (DATA/node/local.kubeconfig), 0 for none")
      ->check(port_from(0))
      ->type_name("PORT")
      ->capture_default_str();
  app.add_option("--pods-max", o.pods_max, "How many pods the node takes, 1 to 10000")
      ->check(CLI::Range(1, 10000).description(""))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--lease-period", texts.lease_period, "How often the node says that it is alive; it counts as silent after four of them [10s]")
      ->check(kLeasePeriod())
      ->type_name("DURATION");
  app.add_option("--pod-namespace", o.pod_namespace, "Network namespace of the pods' sockets; another name also names the host's link and the nftables table")
      ->type_name("NAME")
      ->capture_default_str();
  add_registries(app, o.registries);
  app.add_option("--cluster-domain", o.cluster_domain, "Domain of the Services' names")->check(kDomain())->type_name("DOMAIN")->capture_default_str();
  app.add_option("--resolv-conf", o.resolv_conf, "File that names the servers for all other names; read again when it changes")
      ->type_name("FILE")
      ->capture_default_str();
  app.add_flag("--accept-new-machine", o.accept_new_machine, "Take over a data folder that belongs to another machine, with its keys: that one is gone for good");
  app.add_option("--cgroup", o.cgroup, "Control group that holds the sandboxes")->type_name("NAME")->capture_default_str();
}

CLI::Option* one_of(CLI::Option* option, const std::vector<std::string>& values) {
  std::string type;
  for (const auto& value : values) type += (type.empty() ? "" : "|") + value;
  return option->check(CLI::IsMember(values).description(""))->type_name(type);
}

struct Builder {
  CLI::App app{"Skerry turns a small machine into a Kubernetes node for WebAssembly services.", "skerry"};
  UpOptions up;
  ServerOptions server;
  NodeOptions node;
  RunOptions run;
  ImageAddOptions image_add;
  ImageListOptions image_list;
  ImageRemoveOptions image_remove;
  ImagePullOptions image_pull;
  ImagePushOptions image_push;
  ImageInspectOptions image_inspect;
  ImagePinOptions image_pin, image_unpin{.reference = {}, .pinned = false};
  Texts texts;
  CLI::App *up_app, *server_app, *node_app, *run_app, *image_app, *image_add_app, *image_list_app, *image_remove_app, *image_pull_app, *image_push_app, *image_inspect_app, *image_pin_app, *image_unpin_app;

  Builder() {
    app.set_version_flag("--version", "skerry " SKERRY_VERSION);
    app.require_subcommand(1);
    app.get_formatter()->column_width(40);
    app.get_formatter()->label("REQUIRED", "");
    app.footer("Examples:\n"
               "  skerry up                                     a whole cluster on this machine\n"
               "  skerry image add app.wasm example.com/app:1   make a module available to pods\n"
               "  skerry run app.wasm --port 8080               serve one module, without any cluster\n"
               "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage.");

    add_up();
    add_server();
    add_node();
    add_run();
    add_image();
  }

  void add_up() {
    up_app = app.add_subcommand("up", "Start server and node on this machine, and stay in the foreground");
    up_app->footer("Writes DATA/admin.kubeconfig: export KUBECONFIG=/var/lib/skerry/admin.kubeconfig, then use kubectl.\n"
                   "Needs root: pods get namespaces, control groups and addresses. Ctrl-C ends all of it.\n"
                   "Exit codes: 0 told to stop, 1 server or node could not start, 2 wrong usage.");
    add_data_dir(*up_app, up.server.data_dir);
    add_server_options(*up_app, up.server, texts);
    add_node_options(*up_app, up.node, texts, "cpu=10,memory=4");
    up_app->add_flag("-v,--verbose", up.server.verbose, "Log details");
  }

  void add_server() {
    server_app = app.add_subcommand("server", "Start the Kubernetes API, scheduler and controllers");
    server_app->footer("Writes DATA/admin.kubeconfig. Needs no root if it may write DATA. Exit codes: 0 told to stop, 1 failed, 2 wrong usage.");
    add_data_dir(*server_app, server.data_dir);
    add_server_options(*server_app, server, texts);
    server_app->add_option("--node-name", server.node_name, "Write credentials for this node to DATA/node.kubeconfig")->type_name("NAME");
    server_app->add_option("--parent", server.parent)->group("");  // of `skerry up`, not of people
    server_app->add_flag("-v,--verbose", server.verbose, "Log details");
  }

  void add_node() {
    node_app = app.add_subcommand("node", "Start the agent that runs pods on this machine");
    node_app->footer("Needs root: pods get namespaces, control groups and addresses. Exit codes: 0 told to stop, 1 failed, 2 wrong usage.");
    add_data_dir(*node_app, node.data_dir);
    node_app->add_option("--kubeconfig", node.kubeconfig, "Where the server is and who this node is [DATA/node.kubeconfig]")->type_name("FILE");
    add_node_options(*node_app, node, texts, "cpu=1,memory=1");
    add_ranges(*node_app, node.pod_cidr, node.service_cidr);
    add_cluster_dns(*node_app, node.cluster_dns);
    one_of(node_app->add_option("--on-exit", texts.on_exit, "What becomes of the pods when the agent is told to stop"), {"keep", "stop"})->capture_default_str();
    node_app->add_option("--parent", node.parent)->group("");
    node_app->add_flag("--print-config", node.print_config, "Print the resulting configuration and exit");
    node_app->add_flag("-v,--verbose", node.verbose, "Log details");
  }

  void add_run() {
    run_app = app.add_subcommand("run", "Serve one Wasm module over HTTP, without any cluster");
    run_app->footer("What the guest prints goes to standard output and error. Without root the sandbox is hardened less, and says so.\n"
                    "Exit codes: 0 told to stop (Ctrl-C), 1 the module or the port cannot be served, 2 wrong usage.");
    run_app->add_option("FILE", run.file, "A core WebAssembly module: an http-wasm handler, or a WASI command (--handler wagi)")
        ->required()
        ->check(CLI::ExistingFile.description(""))
        ->type_name("");
    run_app->add_option("--listen", texts.run_listen, "Where to serve [127.0.0.1:8080]")->check(kEndpoint())->type_name("ADDRESS:PORT");
    run_app->add_option("-p,--port", run.listen.port, "Port on 127.0.0.1; 0 takes a free one and prints it")
        ->check(port_from(0))
        ->type_name("PORT")
        ->capture_default_str();
    one_of(run_app->add_option("--handler", run.handler, "What kind of guest it is [found in the module]"), {"http-wasm", "wagi"});
    one_of(run_app->add_option("--isolation", run.isolation, "A fresh instance for every request"), {"request"});
    run_app->add_option("-e,--env", run.env, "An environment variable for the guest (may be repeated)")->check(kEnv())->type_name("NAME=VALUE");
    run_app->add_option("--config", run.config, "What an http-wasm guest reads with get_config");
    run_app->add_option("--deadline", texts.deadline, "Longest time for one request; then 504 [30s]")->check(kDuration())->type_name("DURATION");
    run_app->add_option("--memory", texts.memory, "Memory limit of the guest, 64Ki to 4Gi [512Mi]")->check(kMemory())->type_name("SIZE");
    run_app->add_flag("-v,--verbose", run.verbose, "Log details");
  }

  void add_image() {
    image_app = app.add_subcommand("image", "The images on this machine: add, pull, push, list, inspect, pin and remove");
    image_app->require_subcommand(1);
    image_app->footer("Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage.");
    image_add_app = image_app->add_subcommand("add", "Side-load a Wasm module under an image reference");
    image_add_app->add_option("FILE", image_add.file, "A core WebAssembly module")->required()->check(CLI::ExistingFile.description(""))->type_name("");
    image_add_app->add_option("REFERENCE", image_add.reference, "The name that pods use, e.g. registry.example.com/app:1")->required()->type_name("");
    add_data_dir(*image_add_app, image_add.data_dir);
    image_pull_app = image_app->add_subcommand("pull", "Fetch an image from its registry, so that pods find it here");
    image_pull_app->add_option("REFERENCE", image_pull.reference, "e.g. registry.example.com/app:1, or …@sha256:…")->required()->type_name("");
    add_registry_options(*image_pull_app, image_pull.registries, image_pull.auth_file);
    add_data_dir(*image_pull_app, image_pull.data_dir);
    image_push_app = image_app->add_subcommand("push", "Push an image of this machine to a registry, as an OCI artifact (layer application/wasm)");
    image_push_app->add_option("REFERENCE", image_push.reference, "As `skerry image ls` shows it")->required()->type_name("");
    image_push_app->add_option("TO", image_push.to, "Another name for it there")->type_name("");
    add_registry_options(*image_push_app, image_push.registries, image_push.auth_file);
    add_data_dir(*image_push_app, image_push.data_dir);
    image_inspect_app = image_app->add_subcommand("inspect", "Say all that is known of an image, as one JSON object");
    image_inspect_app->add_option("REFERENCE", image_inspect.reference, "As `skerry image ls` shows it")->required()->type_name("");
    add_data_dir(*image_inspect_app, image_inspect.data_dir);
    image_list_app = image_app->add_subcommand("ls", "List the images");
    image_list_app->add_flag("--json", image_list.json, "One JSON object a line");
    add_data_dir(*image_list_app, image_list.data_dir);
    image_pin_app = image_app->add_subcommand("pin", "Keep an image when the disk is full, although no pod uses it");
    image_unpin_app = image_app->add_subcommand("unpin", "Let an image go when the disk is full and no pod uses it");
    for (const auto& [pin_app, pin] : {std::pair(image_pin_app, &image_pin), std::pair(image_unpin_app, &image_unpin)}) {
      pin_app->add_option("REFERENCE", pin->reference, "As `skerry image ls` shows it")->required()->type_name("");
      add_data_dir(*pin_app, pin->data_dir);
    }
    image_remove_app = image_app->add_subcommand("rm", "Remove an image reference, and its bytes if nothing else refers to them");
    image_remove_app->footer("Refused while a pod of this node uses the image: it could not start again, after a reboot for example.\n"
                             "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage.");
    image_remove_app->add_option("REFERENCE", image_remove.reference, "As `skerry image ls` shows it, or as it was added")->required()->type_name("");
    image_remove_app->add_flag("--force", image_remove.force, "Remove it although pods use it, or although nobody can say whether they do");
    add_data_dir(*image_remove_app, image_remove.data_dir);
  }

  // Only after a successful parse: every text has passed its validator.
  Command command() {
    for (auto* folder : {&up.server.data_dir, &server.data_dir, &node.data_dir, &image_add.data_dir, &image_list.data_dir, &image_remove.data_dir, &image_pull.data_dir, &image_push.data_dir,
                         &image_inspect.data_dir, &image_pin.data_dir, &image_unpin.data_dir}) {
      std::error_code none;  // there is no working folder: the path stays as it is
      if (auto whole = std::filesystem::absolute(*folder, none); !none) *folder = std::move(whole);
    }
    if (!up.node.registries.empty()) up.node.registries = std::filesystem::absolute(up.node.registries);
    for (auto* file : {&up.node.resolv_conf, &node.resolv_conf}) *file = std::filesystem::absolute(*file);
    if (!up.server.token_file.empty()) up.server.token_file = std::filesystem::absolute(up.server.token_file);
    if (!texts.lease_period.empty()) up.node.lease_period = node.lease_period = *parse_duration(texts.lease_period);
    if (up_app->parsed()) {
      if (!texts.listen.empty()) up.server.listen = *parse_endpoint(texts.listen);
      up.node.data_dir = up.server.data_dir;
      up.node.pod_cidr = up.server.pod_cidr;
      up.node.service_cidr = up.server.service_cidr;
      up.node.cluster_dns = up.server.cluster_dns;
      up.node.overcommit = *parse_overcommit(texts.overcommit, {.cpu = 10, .memory = 4});
      up.node.on_exit = OnExit::Stop;
      up.node.verbose = up.server.verbose;
      return up;
    }
    if (server_app->parsed()) {
      if (!texts.listen.empty()) server.listen = *parse_endpoint(texts.listen);
      return server;
    }
    if (node_app->parsed()) {
      node.overcommit = *parse_overcommit(texts.overcommit, {});
      node.on_exit = texts.on_exit == "stop" ? OnExit::Stop : OnExit::Keep;
      return node;
    }
    if (run_app->parsed()) {
      if (!texts.run_listen.empty()) {
        const auto port = run.listen.port;
        run.listen = *parse_endpoint(texts.run_listen);
        if (run_app->get_option("--port")->count() > 0) run.listen.port = port;
      }
      if (!texts.deadline.empty()) run.deadline = *parse_duration(texts.deadline);
      if (!texts.memory.empty()) run.memory_bytes_max = *parse_memory(texts.memory);
      return run;
    }
    if (image_add_app->parsed()) return image_add;
    if (image_list_app->parsed()) return image_list;
    if (image_pull_app->parsed()) return image_pull;
    if (image_push_app->parsed()) return image_push;
    if (image_inspect_app->parsed()) return image_inspect;
    if (image_pin_app->parsed()) return image_pin;
    if (image_unpin_app->parsed()) return image_unpin;
    return image_remove;
  }
};

// CLI11 would only say that a subcommand is required.
std::string missing_command(const CLI::App& app, std::string_view words) {
  std::string names;
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* a : commands) names += std::format("{}{}", names.empty() ? "" : a == commands.back() ? " and " : ", ", a->get_name());
  return std::format("{}; the commands are {}\nRun {} --help for more information.\n", words, names, app.get_name() == "skerry" ? "skerry" : "skerry " + app.get_name());
}

// A command that is missing or unknown, in a sentence; empty if there is none.
std::string command_mistake(const Builder& builder, int argc, const char* const* argv) {
  const CLI::App* app = &builder.app;
  for (int i = 1; app == &builder.app || app == builder.image_app; ++i) {
    if (i >= argc) return missing_command(*app, app == &builder.app ? "a command is missing" : "\"image\" needs a command");
    if (argv[i][0] == '-') return {};
    const auto commands = app->get_subcommands([](const CLI::App*) { return true; });
    const auto at = std::ranges::find_if(commands, [&](const CLI::App* a) { return a->get_name() == argv[i]; });
    if (at == commands.end()) return missing_command(*app, std::format("\"{}\" is not a command{}", argv[i], app == &builder.app ? "" : " of image"));
    app = *at;
  }
  return {};
}

}  // namespace

Result<std::uint64_t> parse_memory(std::string_view text) {
  constexpr std::int64_t kLeast = 64 << 10, kMost = std::int64_t{4} << 30;
  const auto quantity = kube::Quantity::parse(text);
  if (!quantity || quantity->value() < kLeast || quantity->value() > kMost)
    return Fail({Errc::Invalid, std::format("\"{}\" is not a memory size from 64Ki to 4Gi; write it as 64Mi or 1Gi", text)});
  return static_cast<std::uint64_t>(quantity->value());
}

Result<Overcommit> parse_overcommit(std::string_view text, Overcommit otherwise) {
  Overcommit out = otherwise;
  if (text.empty()) return out;
  for (const auto part : split(text, ',')) {
    const auto equals = part.find('=');
    const auto name = part.substr(0, equals);
    if (equals == std::string_view::npos || (name != "cpu" && name != "memory"))
      return Fail({Errc::Invalid, std::format("\"{}\" is not understood; write cpu=N,memory=N", part)});
    double factor = 0;
    const auto digits = part.substr(equals + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), factor, std::chars_format::fixed);
    if (error != std::errc{} || end != digits.data() + digits.size() || !(factor >= 1 && factor <= 100))
      return Fail({Errc::Invalid, std::format("the factor \"{}\" of {} is not a number from 1 to 100", digits, name)});
    (name == "cpu" ? out.cpu : out.memory) = factor;
  }
  return out;
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  const auto colon = text.rfind(':');
  const Error wrong{Errc::Invalid, std::format("\"{}\" is not an address with a port; write it as 127.0.0.1:6443 or [::1]:6443", text)};
  if (colon == std::string_view::npos) return Fail(wrong);
  const auto port = parse_int<std::uint16_t>(text.substr(colon + 1));
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  Endpoint out{std::string(host), port.value_or(0)};
  in6_addr six{};
  in_addr four{};
  const bool known = bracketed ? inet_pton(AF_INET6, out.address.c_str(), &six) == 1 : inet_pton(AF_INET, out.address.c_str(), &four) == 1;
  if (!port || !known) return Fail(wrong);
  return out;
}

Result<os::Ipv4> cluster_dns_address(const std::string& given, const std::string& service_cidr) {
  const auto range = os::Ipv4Range::parse(service_cidr);
  if (!range) return Fail({Errc::Invalid, std::format("--service-cidr {} must be a network address, without host bits", service_cidr)});
  constexpr std::uint64_t kTenth = 10;
  if (given.empty()) return range->at(static_cast<std::uint32_t>(std::min(kTenth, range->size() - 2)));
  const auto address = os::Ipv4::parse(given);
  if (!address || !range->contains(*address) || *address <= range->at(1) || *address == range->last())
    return Fail({Errc::Invalid, std::format("--cluster-dns {} is not an address that a Service could have: give one from {} to {}, of --service-cidr {}", given,
                                            range->at(2).str(), os::Ipv4{range->last().value - 1}.str(), service_cidr)});
  return *address;
}

Parsed parse_command_line(int argc, const char* const* argv) {
  Builder builder;
  Parsed out;
  if (auto mistake = command_mistake(builder, argc, argv); !mistake.empty()) {
    out.exit_code = kExitUsage;
    out.error_output = std::move(mistake);
    return out;
  }
  try {
    builder.app.parse(argc, argv);
    out.command = builder.command();
  } catch (const CLI::ParseError& e) {
    std::ostringstream text, errors;
    const int code = builder.app.exit(e, text, errors);
    out.exit_code = code == 0 ? kExitOk : kExitUsage;
    out.output = text.str();
    out.error_output = errors.str();
  }
  return out;
}

}  // namespace skerry::cli
