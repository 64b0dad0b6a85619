// SPDX-License-Identifier: Apache-2.0
// What the command line says, as one struct per subcommand, and the way from argv to it. Nothing else reads argv or the
// environment. All mistakes of a value are reported at once, each with its option.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "os/ipv4.h"

namespace skerry::cli {

struct Overcommit {
  double cpu = 1, memory = 1;
  friend bool operator==(const Overcommit&, const Overcommit&) = default;
};
// "cpu=10,memory=4", either part may be left out; factors from 1 to 100. Invalid: names the part.
Result<Overcommit> parse_overcommit(std::string_view text, Overcommit otherwise);

struct Endpoint {
  std::string address;  // an IP address
  std::uint16_t port = 0;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};
// "64Mi", "1Gi": bytes, from 64Ki to 4Gi (what one Wasm memory can have).
Result<std::uint64_t> parse_memory(std::string_view text);
// "127.0.0.1:6443" or "[::1]:6443".
Result<Endpoint> parse_endpoint(std::string_view text);

// As given; or the tenth address of the Service range, of a range below /28 the last. Invalid: it is no address of the range, or the API's.
Result<os::Ipv4> cluster_dns_address(const std::string& given, const std::string& service_cidr);

struct ServerOptions {
  std::filesystem::path data_dir = "/var/lib/skerry";  // absolute after parsing, as everywhere here
  Endpoint listen{"127.0.0.1", 6443};
  std::vector<std::string> tls_names;  // further names and addresses in the server's certificate
  std::string node_name;               // the node whose credentials are written beside the admin's
  std::string pod_cidr = "10.42.0.0/16";
  std::string service_cidr = "10.43.0.0/16";
  std::string cluster_dns;             // kept for the nodes' name servers; empty: see cluster_dns_address()
  std::filesystem::path token_file;    // empty: nobody is known by a token
  std::int32_t parent = 0;             // who watches this process: it ends with that one
  bool verbose = false;
};

enum class OnExit : std::uint8_t { Keep, Stop };

struct NodeOptions {
  std::filesystem::path data_dir = "/var/lib/skerry";
  std::filesystem::path kubeconfig;  // empty: DATA/node.kubeconfig
  std::string node_name;             // empty: the host name
  std::string node_address;          // empty: found by the route to the server
  std::uint16_t port = 10250;
  std::uint16_t local_port = 10251;  // kubectl on loopback; 0: off
  Overcommit overcommit;
  std::string pod_cidr = "10.42.0.0/16";
  std::string service_cidr = "10.43.0.0/16";
  std::string cluster_dns;  // where the node's name server is asked; empty: see cluster_dns_address()
  std::string cluster_domain = "cluster.local";
  std::filesystem::path resolv_conf = "/etc/resolv.conf";  // names the servers that know the rest of the world
  std::string pod_namespace = "skerry-pods";  // the network namespace of pod sockets
  std::string cgroup = "skerry";
  std::filesystem::path registries;  // empty: /etc/skerry/registries.yaml, if it is there
  std::uint32_t pods_max = 1100;
  Duration lease_period = 10s;  // 5 s to 1 min
  bool accept_new_machine = false;  // the data folder may be another machine's: this one's from now on
  OnExit on_exit = OnExit::Keep;
  std::int32_t parent = 0;  // as the server's
  bool print_config = false;
  bool verbose = false;
};

struct UpOptions {
  ServerOptions server;
  NodeOptions node;
};

struct RunOptions {
  std::filesystem::path file;
  Endpoint listen{"127.0.0.1", 8080};
  std::string handler;    // "", "http-wasm", "wagi"
  std::string isolation;  // "", "request"
  std::vector<std::string> env;
  std::string config;
  Duration deadline = 30s;
  std::uint64_t memory_bytes_max = 512u << 20;
  bool verbose = false;
};

struct ImageAddOptions {
  std::filesystem::path data_dir = "/var/lib/skerry";
  std::filesystem::path file;
  std::string reference;
};
struct ImageListOptions {
  std::filesystem::path data_dir = "/var/lib/skerry";
  bool json = false;
};
struct ImageRemoveOptions {
  std::filesystem::path data_dir = "/var/lib/skerry";
  std::string reference;
  bool force = false;
  friend bool operator==(const ImageRemoveOptions&, const ImageRemoveOptions&) = default;
};

struct ImagePullOptions {
  std::filesystem::path data_dir = "/var/lib/skerry";
  std::string reference;
  std::filesystem::path registries, auth_file;
};
struct ImagePushOptions {
  std::filesystem::path data_dir = "/var/lib/skerry";
  std::string reference, to;  // to: empty: the same
  std::filesystem::path registries, auth_file;
};
struct ImagePinOptions {
  std::filesystem::path data_dir = "/var/lib/skerry";
  std::string reference;
  bool pinned = true;  // false: unpin
  friend bool operator==(const ImagePinOptions&, const ImagePinOptions&) = default;
};
struct ImageInspectOptions {
  std::filesystem::path data_dir = "/var/lib/skerry";
  std::string reference;
};

using Command = std::variant<UpOptions, ServerOptions, NodeOptions, RunOptions, ImageAddOptions, ImageListOptions, ImageRemoveOptions, ImagePullOptions, ImagePushOptions, ImageInspectOptions, ImagePinOptions>;

// Exit codes of every subcommand.
inline constexpr int kExitOk = 0, kExitFailed = 1, kExitUsage = 2;

struct Parsed {
  std::optional<Command> command;  // empty: `output` is all there is to do
  int exit_code = kExitOk;
  std::string output, error_output;
};
Parsed parse_command_line(int argc, const char* const* argv);

}  // namespace skerry::cli
