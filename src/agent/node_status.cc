// SPDX-License-Identifier: Apache-2.0
#include "agent/node_status.h"

#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <format>

#include "base/text.h"
#include "kube/json.h"
#include "os/file.h"

namespace skerry::agent {

using kube::JsonEdit;
using kube::MutJson;

Result<Overcommit> Overcommit::parse(std::string_view text) {
  Overcommit out;
  for (std::string_view part : split(text, ',')) {
    const auto eq = part.find('=');
    const std::string_view name = trim(part.substr(0, eq)), number = eq == std::string_view::npos ? "" : trim(part.substr(eq + 1));
    double value = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    if ((name != "cpu" && name != "memory") || error != std::errc{} || end != number.data() + number.size() || !(value >= 1) || !(value <= 100))
      return Fail({Errc::Invalid, std::format("overcommit \"{}\": expected cpu=N,memory=N with factors from 1 to 100, for example cpu=10,memory=4", text)});
    (name == "cpu" ? out.cpu : out.memory) = value;
  }
  return out;
}
std::string Overcommit::text() const { return std::format("cpu={},memory={}", cpu, memory); }

namespace {

constexpr std::string_view kMachineAnnotation = "skerry.dev/machine";

std::string small(const std::string& path) {
  auto text = os::read_small_file(path, 1 << 20);
  return text ? std::string(trim(*text)) : std::string();
}
std::int64_t kib_field(std::string_view text, std::string_view name) {
  for (std::string_view line : split(text, '\n'))
    if (line.starts_with(name)) {
      const auto rest = trim(line.substr(name.size()));
      return parse_int<std::int64_t>(rest.substr(0, rest.find(' '))).value_or(0) * 1024;
    }
  return 0;
}
// The firmware's id of this machine: a PC's uuid, a hypervisor's, a board's serial number (the device tree ends its texts with NUL).
std::string firmware_id() {
  for (const char* path : {"/sys/class/dmi/id/product_uuid", "/proc/device-tree/system-id", "/proc/device-tree/vm,uuid", "/proc/device-tree/serial-number"}) {
    std::string id = small(path);
    std::erase_if(id, [](char c) { return c <= ' ' || c >= 0x7f || c == '/'; });
    if (!id.empty()) return id;
  }
  return "";
}
std::string os_name() {
  const std::string text = small("/etc/os-release");
  for (std::string_view line : split(text, '\n'))
    if (line.starts_with("PRETTY_NAME=")) {
      std::string_view name = trim(line.substr(12));
      if (name.size() >= 2 && name.front() == '"') name = name.substr(1, name.size() - 2);
      return std::string(name);
    }
  return "Linux";
}

}  // namespace

MachineFacts read_machine(const std::string& folder) {
  MachineFacts out;
  out.cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
  const std::string memory = small("/proc/meminfo");
  out.memory_bytes = kib_field(memory, "MemTotal:");
  out.memory_available_bytes = kib_field(memory, "MemAvailable:");
  struct statvfs disk {};
  if (::statvfs(folder.c_str(), &disk) == 0) {
    out.disk_bytes = static_cast<std::int64_t>(disk.f_blocks) * static_cast<std::int64_t>(disk.f_frsize);
    out.disk_available_bytes = static_cast<std::int64_t>(disk.f_bavail) * static_cast<std::int64_t>(disk.f_frsize);
  }
  struct utsname name {};
  if (::uname(&name) == 0) {
    out.hostname = name.nodename;
    out.kernel = name.release;
    const std::string_view machine = name.machine;
    out.architecture = machine == "x86_64" ? "amd64" : machine == "aarch64" ? "arm64" : std::string(machine);
  }
  out.os_image = os_name();
  out.machine_id = small("/etc/machine-id");
  out.boot_id = small("/proc/sys/kernel/random/boot_id");
  out.system_uuid = firmware_id();
  const std::string pressure = small("/proc/pressure/memory");  // some avg10=0.00 avg60=… total=0
  if (const auto at = pressure.find("avg10="); at != std::string::npos)
    std::from_chars(pressure.data() + at + 6, pressure.data() + pressure.size(), out.memory_pressure_10s);
  return out;
}

void NodeStatus::set_autonomy(std::optional<bool> autonomy) {
  autonomy_said_ = autonomy_said_ || autonomy_.has_value() || autonomy.has_value();
  autonomy_ = autonomy;
}

bool NodeStatus::memory_pressure(const MachineFacts& m) const {
  const std::int64_t floor = std::min<std::int64_t>(100LL << 20, m.memory_bytes / 20);
  return m.memory_available_bytes < floor || (m.memory_pressure_10s > 40 && m.memory_available_bytes < m.memory_bytes / 10);
}
bool NodeStatus::disk_pressure(const MachineFacts& m) const {
  return !disk_trouble_.empty() || (m.disk_bytes > 0 && m.disk_available_bytes < m.disk_bytes / 50);
}

std::string NodeStatus::allocatable_cpu(const MachineFacts& m) const {
  const double milli = static_cast<double>(std::max<std::int64_t>(m.cpus * 1000 - options_.reserve_cpu_millis, 0)) * options_.overcommit.cpu;
  return std::format("{}m", static_cast<std::int64_t>(milli));
}
std::string NodeStatus::allocatable_memory(const MachineFacts& m) const {
  const double bytes = static_cast<double>(std::max<std::int64_t>(m.memory_bytes - options_.reserve_memory_bytes, 0)) * options_.overcommit.memory;
  return std::format("{}Ki", static_cast<std::int64_t>(bytes) / 1024);
}

struct NodeStatusWriter {
  const NodeStatus& s;
  NodeStatus::Condition* conditions_of = nullptr;  // set: heartbeats and transition times are written
  void metadata(MutJson meta, const MachineFacts* facts) const {
    MutJson labels = meta.object("labels");
    for (const auto& [key, value] : s.options_.labels) labels.set(key, value);
    labels.set("kubernetes.io/os", "linux");
    labels.set("kubernetes.io/hostname", s.options_.node_name);
    if (facts != nullptr) labels.set("kubernetes.io/arch", facts->architecture);
    MutJson annotations = meta.object("annotations");
    annotations.set("skerry.dev/overcommit", s.options_.overcommit.text());
    if (s.autonomy_) annotations.set("skerry.dev/autonomy", *s.autonomy_ ? "true" : "false");
    else if (s.autonomy_said_ && facts == nullptr) annotations.set_null("skerry.dev/autonomy");
  }
  // The disk's size is no news in itself: on file systems that share their space it follows what others use.
  void resources(MutJson status, const MachineFacts& m, bool disk) const {
    MutJson capacity = status.object("capacity");
    capacity.set("cpu", std::to_string(m.cpus));
    capacity.set("memory", std::format("{}Ki", m.memory_bytes / 1024));
    capacity.set("pods", std::to_string(s.options_.pods_max));
    if (disk) capacity.set("ephemeral-storage", std::format("{}Ki", m.disk_bytes / 1024));
    MutJson allocatable = status.object("allocatable");
    allocatable.set("cpu", s.allocatable_cpu(m));
    allocatable.set("memory", s.allocatable_memory(m));
    allocatable.set("pods", std::to_string(s.options_.pods_max));
    if (disk) allocatable.set("ephemeral-storage", std::format("{}Ki", m.disk_bytes / 1024 * 9 / 10));
  }
  void conditions(MutJson list, const MachineFacts& m, std::optional<Time> now) const {
    struct Text {
      bool value;
      const char *when_true, *when_false;
      std::string message_true, message_false;
    };
    const Text texts[4] = {
        {s.memory_pressure(m), "NodeHasInsufficientMemory", "NodeHasSufficientMemory", "available memory is low: idle-able sandboxes are stopped first", "the node has sufficient memory available"},
        {s.disk_pressure(m), "NodeHasDiskPressure", "NodeHasNoDiskPressure", s.disk_trouble_.empty() ? "less than 2 % of the disk is free" : s.disk_trouble_, "the node has no disk pressure"},
        {false, "NodeHasInsufficientPID", "NodeHasSufficientPID", "", "the node has sufficient PID available"},
        {true, "KubeletReady", "KubeletNotReady", "skerry is ready", ""},
    };
    for (std::size_t i = 0; i < 4; ++i) {
      const Text& t = texts[i];
      MutJson out = list.push_object();
      out.set("type", s.conditions_[i].type);
      out.set("status", t.value ? "True" : "False");
      out.set("reason", t.value ? t.when_true : t.when_false);
      out.set("message", t.value ? t.message_true : t.message_false);
      if (!now || conditions_of == nullptr) continue;
      NodeStatus::Condition& c = conditions_of[i];
      if (!c.known || c.value != t.value) {
        c.known = true;
        c.value = t.value;
        c.since = *now;
      }
      out.set("lastHeartbeatTime", to_rfc3339(*now));
      out.set("lastTransitionTime", to_rfc3339(c.since));
    }
  }
  void status(MutJson status, const MachineFacts& m, const std::vector<NodeImage>& images, std::optional<Time> now) const {
    resources(status, m, now.has_value());
    conditions(status.array("conditions"), m, now);
    MutJson addresses = status.array("addresses");
    MutJson ip = addresses.push_object();
    ip.set("type", "InternalIP");
    ip.set("address", s.options_.node_address);
    MutJson host = addresses.push_object();
    host.set("type", "Hostname");
    host.set("address", s.options_.node_name);
    status.object("daemonEndpoints").object("kubeletEndpoint").set("Port", static_cast<std::int64_t>(s.options_.node_port));
    MutJson info = status.object("nodeInfo");
    info.set("machineID", m.machine_id);
    info.set("systemUUID", m.system_uuid);
    info.set("bootID", m.boot_id);
    info.set("kernelVersion", m.kernel);
    info.set("osImage", m.os_image);
    info.set("containerRuntimeVersion", "skerry://" + (s.options_.version.starts_with('v') ? s.options_.version.substr(1) : s.options_.version));
    info.set("kubeletVersion", "v1.32.0+skerry-" + s.options_.version);
    info.set("kubeProxyVersion", "");
    info.set("operatingSystem", "linux");
    info.set("architecture", m.architecture);
    MutJson list = status.array("images");
    for (const NodeImage& image : images) {
      MutJson out = list.push_object();
      out.array("names").push(image.name);
      out.set("sizeBytes", image.size);
    }
  }
};

std::string NodeStatus::node(const MachineFacts& m, const std::vector<NodeImage>& images, Time now) {
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("apiVersion", "v1");
  root.set("kind", "Node");
  MutJson meta = root.object("metadata");
  meta.set("name", options_.node_name);
  const NodeStatusWriter writer{*this, conditions_};
  writer.metadata(meta, &m);
  writer.status(root.object("status"), m, images, now);
  return edit.dump();
}
std::string NodeStatus::metadata_patch() const {
  JsonEdit edit;
  NodeStatusWriter{*this}.metadata(edit.root().object("metadata"), nullptr);
  return edit.dump();
}
std::string NodeStatus::status_patch(const MachineFacts& m, const std::vector<NodeImage>& images, Time now) {
  JsonEdit edit;
  NodeStatusWriter{*this, conditions_}.status(edit.root().object("status"), m, images, now);
  return edit.dump();
}
std::string NodeStatus::essence(const MachineFacts& m, const std::vector<NodeImage>& images) const {
  JsonEdit edit;
  NodeStatusWriter{*this}.status(edit.root().object("status"), m, images, std::nullopt);
  return edit.dump();
}

std::string machine_annotation(const MachineFacts& m) { return m.machine_id.empty() && m.system_uuid.empty() ? std::string() : m.machine_id + "/" + m.system_uuid; }

namespace {
std::int64_t lease_seconds(Duration period) { return std::max<std::int64_t>(std::chrono::ceil<std::chrono::seconds>(4 * period).count(), 1); }
}  // namespace

std::string lease_body(const std::string& node, const std::string& node_uid, const std::string& machine, Duration period, Time now) {
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("apiVersion", "coordination.k8s.io/v1");
  root.set("kind", "Lease");
  MutJson meta = root.object("metadata");
  meta.set("name", node);
  meta.set("namespace", "kube-node-lease");
  if (!machine.empty()) meta.object("annotations").set(kMachineAnnotation, machine);
  if (!node_uid.empty()) {
    MutJson owner = meta.array("ownerReferences").push_object();
    owner.set("apiVersion", "v1");
    owner.set("kind", "Node");
    owner.set("name", node);
    owner.set("uid", node_uid);
  }
  MutJson spec = root.object("spec");
  spec.set("holderIdentity", node);
  spec.set("leaseDurationSeconds", lease_seconds(period));
  spec.set("renewTime", to_rfc3339_micro(now));
  return edit.dump();
}
std::string lease_renewal(const std::string& node, const std::string& machine, Duration period, Time now) {
  JsonEdit edit;
  if (!machine.empty()) edit.root().object("metadata").object("annotations").set(kMachineAnnotation, machine);
  MutJson spec = edit.root().object("spec");
  spec.set("holderIdentity", node);
  spec.set("leaseDurationSeconds", lease_seconds(period));  // a Lease that is taken over may say something else
  spec.set("renewTime", to_rfc3339_micro(now));
  return edit.dump();
}

}  // namespace skerry::agent
