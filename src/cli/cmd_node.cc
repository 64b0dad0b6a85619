// SPDX-License-Identifier: Apache-2.0
// `skerry node`: builds the real world of the agent: network, Services, the way to the API server, and :10250.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <format>
#include <set>

#include "agent/agent.h"
#include "agent/identity.h"
#include "agent/machine_binding.h"
#include "agent/node_status.h"
#include "base/log.h"
#include "base/random.h"
#include "cli/cmd.h"
#include "cli/credentials.h"
#include "cli/daemon.h"
#include "cli/kubeconfig.h"
#include "cli/layout.h"
#include "cli/local_api.h"
#include "cli/registries_file.h"
#include "client/client.h"
#include "http/client.h"
#include "http/server.h"
#include "kube/json.h"
#include "net/name_server.h"
#include "net/pod_network.h"
#include "net/service_proxy.h"
#include "os/file.h"
#include "os/spawn.h"
#include "rt/blocking_pool.h"
#include "rt/task_group.h"

namespace skerry::cli {
namespace {

// The address from which this machine reaches others: a connected datagram socket asks the routing table, and sends nothing.
// Without any route, loopback.
std::string own_address() {
  os::UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(9);
  inet_pton(AF_INET, "192.0.2.1", &to.sin_addr);  // TEST-NET-1 (RFC 5737): routed like any far address
  socklen_t length = sizeof to;
  std::array<char, INET_ADDRSTRLEN> text{};
  if (!fd || ::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 || ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&to), &length) != 0 ||
      inet_ntop(AF_INET, &to.sin_addr, text.data(), text.size()) == nullptr)
    return "127.0.0.1";
  return text.data();
}

std::string config_text(const NodeOptions& o) {
  kube::JsonEdit edit;
  auto root = edit.root();
  root.set("dataDir", o.data_dir.string());
  root.set("kubeconfig", o.kubeconfig.string());
  root.set("nodeName", o.node_name);
  root.set("nodeAddress", o.node_address);
  root.set("port", static_cast<std::int64_t>(o.port));
  root.set("localPort", static_cast<std::int64_t>(o.local_port));
  auto overcommit = root.object("overcommit");
  overcommit.set("cpu", o.overcommit.cpu);
  overcommit.set("memory", o.overcommit.memory);
  root.set("podCidr", o.pod_cidr);
  root.set("serviceCidr", o.service_cidr);
  root.set("clusterDns", o.cluster_dns);
  root.set("clusterDomain", o.cluster_domain);
  root.set("resolvConf", o.resolv_conf.string());
  root.set("podNamespace", o.pod_namespace);
  root.set("cgroup", o.cgroup);
  root.set("registries", o.registries.empty() ? kRegistriesFile : o.registries.string());
  root.set("podsMax", static_cast<std::int64_t>(o.pods_max));
  root.set("leasePeriod", std::format("{}s", std::chrono::floor<std::chrono::seconds>(o.lease_period).count()));
  root.set("acceptNewMachine", o.accept_new_machine);
  root.set("onExit", o.on_exit == OnExit::Stop ? "stop" : "keep");
  return edit.dump();
}

// In the order of construction; destroyed the other way round.
class NodeProcess {
 public:
  NodeProcess(rt::Loop& loop, NodeOptions options) : loop_(loop), options_(std::move(options)), pool_({.name = "nft and certificates"}) {}

  Result<> open() {
    const DataLayout layout{options_.data_dir};
    TRY(const auto programs, find_programs());
    TRY(auto registry, find_registry_program());
    TRY(auto registries, read_registries(options_.registries));
    TRY_OK(os::make_folders(layout.node(), 0700));
    // Before any key of the folder is read.
    TRY_OK(agent::bind_machine(layout.node(), agent::machine_id_of(agent::read_machine(layout.node().string())),
                               options_.accept_new_machine ? agent::OtherMachine::Accept : agent::OtherMachine::Refuse));
    TRY_OK(open_network());
    TRY(credentials_, read_node_credentials(layout, options_, clock_.now()));
    TRY_OK(open_client());
    agent::AgentOptions agent{
        .node_name = options_.node_name,
        .node_address = options_.node_address,
        .node_port = options_.port,
        .data_folder = layout.node(),
        .image_folder = layout.images(),
        .keeper_program = programs.sandbox,
        .keeper_arguments = {"--cgroup", options_.cgroup},
        .keeper_environment = {},
        .keeper_socket = {},
        .compile_program = programs.compiler,
        .registry = std::move(registry),
        .registries = std::move(registries),
        .version = "v" SKERRY_VERSION,
        .overcommit = {options_.overcommit.cpu, options_.overcommit.memory},
        .pods_max = options_.pods_max,
        .labels = {},
        .lease_period = options_.lease_period,
    };
    agent_.emplace(loop_, agent::AgentDeps{.api = *client_, .network = *network_, .services = &*proxy_, .names = &*names_, .identity = &*identity_, .clock = clock_, .random = random_}, std::move(agent));
    front_.emplace(loop_, agent_->node_api(),
                   http::Server::Options{.name = "node api",
                                         .address = options_.node_address,
                                         .port = options_.port,
                                         .tls = server_tls(credentials_),
                                         .connections_max = 512,
                                         .body_bytes_max = 4096});  // nothing that it serves has a body
    if (options_.local_port != 0)
      if (auto opened = open_local(); !opened) LOG_ERROR("this node does not answer kubectl on its loopback; it serves all the same", {"reason", opened.error()});
    return tell_identity();
  }

  rt::Task<> start() {
    proxy_->start();
    proxy_started_ = true;
    identity_->start();
    identity_started_ = true;
    CO_TRY_OK(co_await agent_->start());
    agent_started_ = true;
    CO_TRY_OK(start_names());
    names_started_ = true;
    CO_TRY_OK(front_->start());
    front_started_ = true;
    start_local();
    tasks_.spawn("certificates", renew_certificates([this] {
                   renew_local();
                   return take_up_certificates();
                 }));
    LOG_INFO("skerry is ready", {"node", options_.node_name}, {"address", options_.node_address}, {"port", front_->port()});
    co_return Result<>{};
  }

  rt::Task<> stop() {
    const auto said = [](std::string_view part, const Result<>& result) {
      if (!result) LOG_WARN("stopping failed", {"part", part}, {"error", result.error()});
    };
    const bool stop_pods = options_.on_exit == OnExit::Stop;
    said("certificates", co_await tasks_.stop());
    if (local_started_) said("local api", co_await local_front_->stop());
    if (local_started_) said("local api", co_await local_->stop());
    if (identity_started_) said("identity", co_await identity_->stop());
    if (front_started_) said("node api", co_await front_->stop());
    if (agent_started_) said("agent", co_await agent_->stop(stop_pods ? agent::OnStop::StopPods : agent::OnStop::KeepPods));
    if (names_started_) said("names", co_await names_->stop());
    if (proxy_started_) said("services", co_await proxy_->stop());
    // Nothing serves any more: what was made in the kernel goes. (IP forwarding stays on: others may rely on it by now.) A network that was
    // there before a start that came to nothing may have pods of a former agent.
    if (stop_pods && proxy_started_) said("nftables", proxy_->remove());
    if (stop_pods && network_ && (proxy_started_ || network_->made())) said("network", network_->remove());
    co_return Result<>{};
  }

 private:
  // A second node on one machine (--pod-namespace) has a link and a table of its own, named like its namespace.
  struct KernelNames {
    std::string link, table;
  };
  Result<KernelNames> kernel_names() const {
    if (options_.pod_namespace == NodeOptions{}.pod_namespace) return KernelNames{"skerry0", "skerry"};
    constexpr std::size_t kLinkNameMax = 15;  // IFNAMSIZ - 1
    if (options_.pod_namespace.empty() || options_.pod_namespace.size() > kLinkNameMax || options_.pod_namespace.find_first_of("/ .") != std::string::npos)
      return Fail({Errc::Invalid, std::format("--pod-namespace \"{}\" names the host's link too: give it 1 to {} characters without '/', '.' and spaces", options_.pod_namespace, kLinkNameMax)});
    std::string table = options_.pod_namespace;
    std::ranges::replace(table, '-', '_');
    return KernelNames{options_.pod_namespace, table};
  }

  Result<> open_network() {
    TRY(const auto names, kernel_names());
    const auto pods = os::Ipv4Range::parse(options_.pod_cidr), services = os::Ipv4Range::parse(options_.service_cidr);
    if (!pods || !services)
      return Fail({Errc::Invalid, std::format("--pod-cidr {} and --service-cidr {} must be network addresses, without host bits", options_.pod_cidr, options_.service_cidr)});
    TRY(auto network, net::PodNetwork::open({.name = options_.pod_namespace, .host_link = names.link, .pods = *pods, .services = *services}));
    network_.emplace(std::move(network));
    net::ServiceProxy::Options proxy;
    proxy.rules.table = names.table;
    proxy.rules.pods = *pods;
    proxy.rules.services = *services;
    proxy.rules.node = options_.node_name;
    TRY(cluster_dns_, cluster_dns_address(options_.cluster_dns, options_.service_cidr));
    proxy.rules.names = {.address = cluster_dns_, .server = network_->own_address()};
    proxy_.emplace(loop_, pool_, std::move(proxy));
    net::NameServer::Options server;
    server.names = {.zone = options_.cluster_domain,
                    .node = options_.node_name,
                    .pods = *pods,
                    .services = *services,
                    .server = cluster_dns_,
                    .serial = static_cast<std::uint32_t>(std::chrono::floor<std::chrono::seconds>(clock_.now()).time_since_epoch().count())};
    server.forward.resolv_conf = options_.resolv_conf;
    server.forward.ours = {cluster_dns_.str(), network_->own_address().str()};
    names_.emplace(loop_, random_, std::move(server));
    return {};
  }

  // kubectl on loopback: what this machine's own root asks of its node, whether or not the line is there.
  Result<> open_local() {
    TRY(auto credentials, make_local_credentials(DataLayout{options_.data_dir}.node(), options_.node_name, options_.local_port, clock_.now()));
    local_.emplace(loop_, agent_->local_view(), agent_->node_api(), clock_, random_, LocalApi::Options{.node = options_.node_name});
    local_front_.emplace(loop_, *local_,
                         http::Server::Options{.name = "local api",
                                               .address = "127.0.0.1",
                                               .port = options_.local_port,
                                               .tls = local_tls(credentials),
                                               .connections_max = 64,
                                               .body_bytes_max = 256 << 10});
    return {};
  }
  static http::ServerTls local_tls(const LocalCredentials& c) {
    return {.certificate_pem = c.serving.certificate_pem, .key_pem = c.serving.key_pem, .client_ca_pem = c.ca_pem};
  }
  // The node serves without it: a port that is taken, by a second node of this machine say, ends nothing.
  void start_local() {
    if (!local_front_) return;
    if (auto listening = local_front_->start(); !listening) {
      LOG_WARN("this node does not answer kubectl on its loopback: give --local-port another port, or 0", {"port", options_.local_port}, {"reason", listening.error()});
      return;
    }
    local_->start();
    local_started_ = true;
    LOG_INFO("this node answers kubectl on its loopback", {"port", options_.local_port}, {"kubeconfig", (DataLayout{options_.data_dir}.node() / "local.kubeconfig").string()});
  }

  // The agent runs, so nobody else has these sockets, and what the checkpoint knows is answered from the first query on.
  Result<> start_names() {
    constexpr std::uint16_t kPort = 53;
    const os::Ipv4 address = network_->own_address();
    TRY(auto udp, network_->bind_datagrams(address, kPort));
    TRY(auto tcp, network_->listen(address, kPort));
    TRY_OK(names_->start(std::move(udp), std::move(tcp)));
    // For programs of the host (docs/node.md). One that is mounted somewhere stays the same file while it says the same.
    const auto& domain = options_.cluster_domain;
    const std::string text = std::format("nameserver {}\nsearch default.svc.{} svc.{} {}\noptions ndots:5\n", cluster_dns_.str(), domain, domain, domain);
    const auto path = DataLayout{options_.data_dir}.node() / "resolv.conf";
    const auto there = os::read_small_file(path);
    if (!there || *there != text) TRY_OK(os::write_file_atomically(path, text));
    LOG_INFO("names are answered", {"address", cluster_dns_.str()}, {"domain", domain});
    return {};
  }

  Result<> open_client() {
    const Kubeconfig& config = credentials_.config;
    TRY(transport_, http::HttpsTransport::create(loop_, {.host = config.host,
                                                         .port = config.port,
                                                         .tls = client_tls(config),
                                                         .bearer_token = config.token,
                                                         .user_agent = "skerry-node/" SKERRY_VERSION}));
    client_.emplace(*transport_);
    identity_.emplace(loop_, agent::Identity::Deps{.api = *client_, .disk = pool_, .clock = clock_, .random = random_, .take_up = [this] { return take_up_certificates(); }},
                      agent::Identity::Options{.node_name = options_.node_name, .folder = DataLayout{options_.data_dir}.node_pki()});
    return {};
  }

  static http::ClientTls client_tls(const Kubeconfig& c) {
    return {.ca_pem = c.ca_pem, .certificate_pem = c.client_certificate_pem, .key_pem = c.client_key_pem, .server_name = {}};
  }
  static http::ServerTls server_tls(const NodeCredentials& c) {
    return {.certificate_pem = c.serving.certificate_pem, .key_pem = c.serving.key_pem, .client_ca_pem = c.config.ca_pem};
  }

  // Says what is shown now, and what of it the node renews; and what an operator should know of it, once.
  Result<> tell_identity() {
    using Purpose = agent::RenewalCore::Purpose;
    for (const auto& remark : credentials_.remarks)
      if (remarks_.insert(remark).second) LOG_WARN("node certificates", {"remark", remark});
    TRY_OK(identity_->set(Purpose::Client, credentials_.client_managed, credentials_.authorities));
    return identity_->set(Purpose::Serving, credentials_.serving_managed, credentials_.authorities);
  }

  // The server renews the kubeconfig and the serving certificate in the data folder, or the node its own: here they are taken up.
  Result<> take_up_certificates() {
    TRY(auto fresh, read_node_credentials(DataLayout{options_.data_dir}, options_, clock_.now()));
    const Kubeconfig &now = fresh.config, &before = credentials_.config;
    if (now.ca_pem != before.ca_pem || now.client_certificate_pem != before.client_certificate_pem || now.token != before.token) {
      TRY_OK(transport_->set_credentials(client_tls(now), now.token));
      LOG_INFO("client certificate renewed");
    }
    if (now.ca_pem != before.ca_pem || fresh.serving.certificate_pem != credentials_.serving.certificate_pem) {
      TRY_OK(front_->set_tls(server_tls(fresh)));
      LOG_INFO("serving certificate renewed");
    }
    credentials_ = std::move(fresh);
    return tell_identity();
  }
  // The loopback's own, which nobody else signs: made anew before they end.
  void renew_local() {
    if (!local_started_) return;
    auto local = make_local_credentials(DataLayout{options_.data_dir}.node(), options_.node_name, options_.local_port, clock_.now());
    const auto renewed = local ? local_front_->set_tls(local_tls(*local)) : Result<>(Fail(local.error()));
    if (!renewed) LOG_WARN("the certificates of kubectl on this node's loopback are not renewed: tried again with the next round", {"reason", renewed.error()});
  }

  rt::Loop& loop_;
  NodeOptions options_;
  SystemClock clock_;
  SystemRandom random_;
  rt::BlockingPool pool_;
  std::optional<net::PodNetwork> network_;
  std::optional<net::ServiceProxy> proxy_;
  os::Ipv4 cluster_dns_;
  std::optional<net::NameServer> names_;
  NodeCredentials credentials_;
  std::unique_ptr<http::HttpsTransport> transport_;
  std::optional<client::Client> client_;
  std::optional<agent::Identity> identity_;
  std::set<std::string> remarks_;  // said already; a few at most, since nothing in them changes by itself
  std::optional<agent::Agent> agent_;
  std::optional<http::Server> front_;
  std::optional<LocalApi> local_;
  std::optional<http::Server> local_front_;
  rt::TaskGroup tasks_{loop_};
  bool proxy_started_ = false, identity_started_ = false, names_started_ = false, agent_started_ = false, front_started_ = false, local_started_ = false;
};

// `skerry up` starts server and node together: the kubeconfig may not be there yet.
Result<> wait_for_kubeconfig(const std::filesystem::path& path) {
  constexpr int kTries = 200;
  for (int i = 0; i < kTries; ++i) {
    if (std::filesystem::exists(path)) return {};
    ::usleep(25'000);
  }
  return Fail({Errc::NotFound, std::format("{} does not exist; give --kubeconfig a file that names the server and this node's credentials", path.string())});
}

}  // namespace

int cmd_node(const NodeOptions& given) {
  NodeOptions options = given;
  if (options.verbose) set_log_level(LogLevel::Debug);
  if (options.node_name.empty()) {
    auto name = host_name();
    if (!name) return fail(name.error());
    options.node_name = std::move(*name);
  }
  if (options.node_address.empty()) options.node_address = own_address();
  if (options.kubeconfig.empty()) options.kubeconfig = DataLayout{options.data_dir}.node_kubeconfig();
  const auto cluster_dns = cluster_dns_address(options.cluster_dns, options.service_cidr);
  if (!cluster_dns) return fail(cluster_dns.error());
  options.cluster_dns = cluster_dns->str();
  if (options.print_config) {
    std::printf("%s\n", config_text(options).c_str());
    return kExitOk;
  }
  if (::geteuid() != 0) return fail({Errc::Denied, "`skerry node` needs root: pods get namespaces, control groups and addresses. Run it with sudo"});
  if (options.parent != 0)
    if (auto bound = os::end_with(options.parent, SIGKILL); !bound) return fail(bound.error());
  if (auto there = wait_for_kubeconfig(options.kubeconfig); !there) return fail(there.error());
  rt::Loop loop;
  NodeProcess node(loop, options);
  auto ended = run_daemon(loop, {.open = [&] { return node.open(); }, .start = [&] { return node.start(); }, .stop = [&] { return node.stop(); }});
  return ended ? kExitOk : fail(ended.error());
}

}  // namespace skerry::cli
