// SPDX-License-Identifier: Apache-2.0
#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::cli {
namespace {

using ::testing::HasSubstr;

Parsed parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "skerry");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

TEST(Options, UpOffersMoreThanTheMachineHasByDefault) {
  const auto up = std::get<UpOptions>(*parse({"up", "--listen", "127.0.0.1:7443", "--data-dir", "/tmp/x"}).command);
  EXPECT_EQ(up.node.overcommit, (Overcommit{10, 4}));
  EXPECT_EQ(up.server.listen, (Endpoint{"127.0.0.1", 7443}));
  EXPECT_EQ(up.node.data_dir, "/tmp/x");
  EXPECT_EQ(up.node.on_exit, OnExit::Stop);
}

TEST(Options, NodeOffersWhatTheMachineHasByDefault) {
  const auto node = std::get<NodeOptions>(*parse({"node", "--overcommit", "cpu=2.5"}).command);
  EXPECT_EQ(node.overcommit, (Overcommit{2.5, 1}));
  EXPECT_EQ(node.on_exit, OnExit::Keep);
}

TEST(Options, TheLeasePeriodGoesToTheNode) {
  EXPECT_EQ(std::get<NodeOptions>(*parse({"node"}).command).lease_period, 10s);
  EXPECT_EQ(std::get<NodeOptions>(*parse({"node", "--lease-period", "1m"}).command).lease_period, 60s);
  EXPECT_EQ(std::get<UpOptions>(*parse({"up", "--lease-period", "5s"}).command).node.lease_period, 5s);
}

TEST(Options, TheNameServersAddressIsOneThatAServiceCouldHave) {
  const auto up = std::get<UpOptions>(*parse({"up", "--cluster-dns", "10.43.0.53", "--cluster-domain", "edge.example", "--resolv-conf", "/run/resolv.conf"}).command);
  EXPECT_EQ(up.server.cluster_dns, "10.43.0.53");
  EXPECT_EQ(up.node.cluster_dns, "10.43.0.53");
  EXPECT_EQ(up.node.cluster_domain, "edge.example");
  EXPECT_EQ(up.node.resolv_conf, "/run/resolv.conf");
  EXPECT_EQ(cluster_dns_address("", "10.43.0.0/16")->str(), "10.43.0.10");
  EXPECT_EQ(cluster_dns_address("", "10.43.0.8/29")->str(), "10.43.0.14");
  EXPECT_EQ(cluster_dns_address("10.43.7.7", "10.43.0.0/16")->str(), "10.43.7.7");
  for (const auto* wrong : {"10.44.0.10", "10.43.0.0", "10.43.0.1", "10.43.255.255"}) {
    const auto address = cluster_dns_address(wrong, "10.43.0.0/16");
    ASSERT_FALSE(address) << wrong;
    EXPECT_THAT(address.error().what, HasSubstr("from 10.43.0.2 to 10.43.255.254"));
  }
}

TEST(Options, MistakesExitWithTwoAndSayWhatIsMeant) {
  for (const auto& [arguments, text] : std::vector<std::pair<std::vector<const char*>, const char*>>{
           {{"node", "--overcommit", "cpu=0.5"}, "number from 1 to 100"},
           {{"node", "--overcommit", "disk=2"}, "write cpu=N,memory=N"},
           {{"node", "--lease-period", "4s"}, "from 5s to 60s"},
           {{"node", "--lease-period", "10500ms"}, "whole seconds"},
           {{"up", "--lease-period", "2m"}, "from 5s to 60s"},
           {{"up", "--listen", "6443"}, "write it as 127.0.0.1:6443"},
           {{"up", "--listen", "localhost:6443"}, "write it as 127.0.0.1:6443"},
           {{"run", "/nonexistent.wasm"}, "/nonexistent.wasm"},
           {{"server", "--pod-cidr", "10.42.0.0"}, "10.42.0.0/16"},
           {{"up", "--listen", "127.0.0.1:0"}, "a port from 1 to 65535"},
           {{"up", "--cluster-dns", "here"}, "write it as 10.43.0.10"},
           {{"node", "--cluster-domain", "Cluster.Local"}, "write it as cluster.local"},
           {{"up", "--port", "0"}, "number from 1 to 65535"},
           {{"up", "--node-address", "here"}, "is not an address"},
           {{"up", "--data-dir", "/etc/hostname"}, "is no folder"},
           {{"up", "--data-dir", ""}, "is no folder"},
           {{"run", "/etc/hostname", "--port", "70000"}, "\"70000\" is not a port; give a number from 0 to 65535"},
           {{"run", "/etc/hostname", "--port", "-1"}, "not a port"},
           {{"run", "/etc/hostname", "--port"}, "--port"},
           {{"run", "/etc/hostname", "--memory", "100Gi"}, "from 64Ki to 4Gi"},
           {{"run", "/etc/hostname", "--memory", "lots"}, "from 64Ki to 4Gi"},
           {{"run", "/etc"}, "directory"},
           {{"run", "/etc/hostname", "--bogus"}, "--bogus"},
           {{}, "a command is missing; the commands are up, server, node, run and image"},
           {{"upp"}, "\"upp\" is not a command; the commands are up, server, node, run and image"},
           {{"image"}, "\"image\" needs a command; the commands are add, pull, push, inspect, ls, pin, unpin and rm"},
           {{"image", "list"}, "\"list\" is not a command of image; the commands are add, pull, push, inspect, ls, pin, unpin and rm"}}) {
    SCOPED_TRACE(text);
    const auto out = parse(arguments);
    EXPECT_FALSE(out.command);
    EXPECT_EQ(out.exit_code, kExitUsage);
    EXPECT_THAT(out.error_output, HasSubstr(text));
  }
}

// A service's working folder is not where its operator stood.
TEST(Options, DataFoldersAreWholePaths) {
  EXPECT_TRUE(std::get<ServerOptions>(*parse({"server", "--data-dir", "here"}).command).data_dir.is_absolute());
  EXPECT_EQ(std::get<ImageRemoveOptions>(*parse({"image", "rm", "a:1", "--force"}).command), (ImageRemoveOptions{.reference = "a:1", .force = true}));
  EXPECT_EQ(std::get<ImagePinOptions>(*parse({"image", "pin", "a:1"}).command), (ImagePinOptions{.reference = "a:1", .pinned = true}));
  EXPECT_EQ(std::get<ImagePinOptions>(*parse({"image", "unpin", "a:1"}).command), (ImagePinOptions{.reference = "a:1", .pinned = false}));
}

TEST(Options, HelpNamesWhatIsMeant) {
  for (const char* text : {"--memory SIZE", "--port PORT", "--listen ADDRESS:PORT", "--handler http-wasm|wagi", "--deadline DURATION", "Exit codes"})
    EXPECT_THAT(parse({"run", "--help"}).output, HasSubstr(text));
  EXPECT_THAT(parse({"up", "--help"}).output, HasSubstr("--pod-cidr CIDR [10.42.0.0/16]"));
}

TEST(Options, HelpAndVersionAreNoErrors) {
  EXPECT_EQ(parse({"--help"}).exit_code, kExitOk);
  EXPECT_THAT(parse({"--help"}).output, HasSubstr("skerry up"));
  EXPECT_THAT(parse({"--version"}).output, HasSubstr("skerry "));
  EXPECT_THAT(parse({"up", "--help"}).output, HasSubstr("--overcommit"));
}

TEST(Options, RunTakesAPortOrAnAddress) {
  EXPECT_EQ(std::get<RunOptions>(*parse({"run", "/etc/hostname", "-p", "0"}).command).listen, (Endpoint{"127.0.0.1", 0}));
  const auto run = std::get<RunOptions>(
      *parse({"run", "/etc/hostname", "--listen", "0.0.0.0:81", "-e", "A=b=c", "--deadline", "500ms", "--memory", "64Mi"}).command);
  EXPECT_EQ(run.listen, (Endpoint{"0.0.0.0", 81}));
  EXPECT_EQ(run.deadline, Duration(500ms));
  EXPECT_EQ(run.memory_bytes_max, 64U << 20);
}

}  // namespace
}  // namespace skerry::cli
