// SPDX-License-Identifier: Apache-2.0
// skerry-bench-load: an HTTP/1.1 load generator with exact percentiles, for the figures that wrk cannot give.
//
//   cold    one connection after another, one request each, to every target in turn: connect() → first byte. With pods
//           that have no process this is the cold start. --spacing puts a pause between them.
//   closed  --connections at once over all targets, keep-alive, each sends its next request when the last was answered.
//   open    --rate requests a second, whatever the answers do. A latency counts from the moment at which the request
//           was due, so that a server which stalls is not flattered by a generator that waits for it.
//
// With --close every request of the last two has a connection of its own.
// A request fails when it is refused, cut, not answered in --timeout, or not answered with --expect; none is sent
// twice, so a server that closes a kept connection under a request is seen. Prints one JSON object; exit 1 if more than
// --errors-max failed. One thread, one epoll; blocking connects in cold mode alone.
#include <arpa/inet.h>
#include <fcntl.h>
#include <llhttp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <format>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;
using Point = Steady::time_point;

struct Options {
  std::string mode = "closed", path = "/", method = "GET", host, body_file, content_type = "application/json", netns,
              samples;
  std::vector<std::string> targets;
  std::string targets_file;
  std::size_t connections = 1, rounds = 1;
  double seconds = 5, rate = 100, spacing_ms = 0, timeout_ms = 5000, warm_seconds = 0;
  int expect = 200;
  std::uint64_t errors_max = 0;
  bool close = false;
};

[[noreturn]] void die(const std::string& text) {
  std::fprintf(stderr, "skerry-bench-load: %s\n", text.c_str());
  std::exit(2);
}

std::optional<sockaddr_in> parse_target(const std::string& text) {
  const auto colon = text.rfind(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (colon == std::string::npos || inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1)
    return std::nullopt;
  char* end = nullptr;
  const unsigned long port = std::strtoul(text.c_str() + colon + 1, &end, 10);
  if (*end != 0 || port == 0 || port > 65535) return std::nullopt;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

// All latencies, exactly, in nanoseconds; percentiles by selection.
class Latencies {
 public:
  void add(Steady::duration d) { values_.push_back(static_cast<std::uint64_t>(std::max<std::int64_t>(d.count(), 0))); }
  void clear() { values_.clear(); }
  std::size_t count() const { return values_.size(); }
  double percentile_us(double p) {
    if (values_.empty()) return 0;
    auto rank = static_cast<std::size_t>(p * static_cast<double>(values_.size()));
    rank = std::min(rank, values_.size() - 1);
    const auto at = values_.begin() + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(values_.begin(), at, values_.end());
    return static_cast<double>(*at) / 1000;
  }
  void append_to(const std::string& path) const {
    std::ofstream file(path, std::ios::app);
    for (const auto v : values_) file << static_cast<double>(v) / 1000 << '\n';
    file.close();
    if (!file) die(std::format("cannot write {}", path));
  }
  double mean_us() const {
    double sum = 0;
    for (const auto v : values_) sum += static_cast<double>(v);
    return values_.empty() ? 0 : sum / 1000 / static_cast<double>(values_.size());
  }

 private:
  std::vector<std::uint64_t> values_;
};

struct Totals {
  Latencies latencies;
  std::uint64_t errors = 0, wrong_status = 0, timeouts = 0, refused = 0, bytes = 0, connects = 0;
  std::string first_error;
  void fail(std::uint64_t Totals::* kind, const std::string& text) {
    if (errors++ == 0) first_error = text;
    this->*kind += 1;
  }
};

std::string build_request(const Options& options, const std::string& target, bool keep_alive) {
  std::string body;
  if (!options.body_file.empty()) {
    std::ifstream file(options.body_file, std::ios::binary);
    if (!file) die(std::format("cannot read {}: {}", options.body_file, std::strerror(errno)));
    std::ostringstream text;
    text << file.rdbuf();
    body = text.str();
  }
  std::string request = std::format("{} {} HTTP/1.1\r\nHost: {}\r\n", options.method, options.path,
                                    options.host.empty() ? target : options.host);
  if (!keep_alive) request += "Connection: close\r\n";
  if (!body.empty() || options.method == "POST" || options.method == "PUT") {
    request += std::format("Content-Type: {}\r\nContent-Length: {}\r\n", options.content_type, body.size());
  }
  return request + "\r\n" + body;
}

// One response at a time, by the library that the sandbox uses for requests.
class Response {
 public:
  Response() {
    llhttp_settings_init(&settings_);
    settings_.on_message_complete = [](llhttp_t* parser) -> int {
      static_cast<Response*>(parser->data)->complete_ = true;
      return HPE_PAUSED;
    };
    llhttp_init(&parser_, HTTP_RESPONSE, &settings_);
    parser_.data = this;
  }
  Response(const Response&) = delete;
  Response& operator=(const Response&) = delete;
  // Returns false when the bytes are no HTTP.
  bool feed(const char* bytes, std::size_t size) {
    const auto result = llhttp_execute(&parser_, bytes, size);
    return result == HPE_OK || (result == HPE_PAUSED && complete_);
  }
  bool complete() const { return complete_; }
  int status() const { return parser_.status_code; }
  bool keep_alive() const { return llhttp_should_keep_alive(&parser_) != 0; }
  bool finish() {  // the connection ended; where the end of the body is the end of the connection, that is fine
    return llhttp_finish(&parser_) == HPE_OK || complete_;
  }
  void next() {
    complete_ = false;
    llhttp_reset(&parser_);
  }

 private:
  llhttp_t parser_{};
  llhttp_settings_t settings_{};
  bool complete_ = false;
};

int open_socket(int extra) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | extra, 0);
  if (fd < 0) die(std::format("socket: {}", std::strerror(errno)));
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

// --- cold -----------------------------------------------------------------------------------------------------------
struct ColdResult {
  std::optional<Steady::duration> first_byte;
  std::uint64_t Totals::* kind = &Totals::refused;
  std::string error;
};

ColdResult cold_call(const Options& options, const sockaddr_in& address, const std::string& request, Totals& totals) {
  const int fd = open_socket(0);
  const auto us = static_cast<std::int64_t>(options.timeout_ms * 1000);
  const timeval timeout{.tv_sec = us / 1'000'000, .tv_usec = us % 1'000'000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  ColdResult result;
  Response response;
  char buffer[64 * 1024];
  const auto failed = [&](std::uint64_t Totals::* kind, std::string text) {
    result.kind = kind;
    result.error = std::move(text);
    result.first_byte.reset();
    close(fd);
    return result;
  };
  const Point start = Steady::now();
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failed(&Totals::refused, std::format("connect: {}", std::strerror(errno)));
  }
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return failed(&Totals::refused, std::format("send: {}", std::strerror(errno)));
  }
  while (!response.complete()) {
    const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got > 0 && !result.first_byte) result.first_byte = Steady::now() - start;
    if (got < 0)
      return failed(&Totals::timeouts,
                    errno == EAGAIN ? "no answer in time" : std::format("recv: {}", std::strerror(errno)));
    if (got == 0) {
      if (!response.finish()) return failed(&Totals::refused, "the connection ended before the response did");
      break;
    }
    totals.bytes += static_cast<std::uint64_t>(got);
    if (!response.feed(buffer, static_cast<std::size_t>(got)))
      return failed(&Totals::refused, "the answer is not HTTP");
  }
  if (response.status() != options.expect) {
    return failed(&Totals::wrong_status, std::format("status {} instead of {}", response.status(), options.expect));
  }
  close(fd);
  return result;
}

void run_cold(const Options& options, const std::vector<sockaddr_in>& addresses, Totals& totals) {
  std::vector<std::string> requests;
  for (const auto& target : options.targets) requests.push_back(build_request(options, target, false));
  for (std::size_t round = 0; round < options.rounds; round++) {
    for (std::size_t i = 0; i < addresses.size(); i++) {
      if (options.spacing_ms > 0)
        std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(options.spacing_ms));
      totals.connects++;
      const ColdResult result = cold_call(options, addresses[i], requests[i], totals);
      if (result.first_byte) {
        totals.latencies.add(*result.first_byte);
      } else {
        totals.fail(result.kind, options.targets[i] + ": " + result.error);
      }
    }
  }
}

// --- closed and open ------------------------------------------------------------------------------------------------
class Generator {
 public:
  Generator(const Options& options, const std::vector<sockaddr_in>& addresses, Totals& totals)
      : options_(options), addresses_(addresses), totals_(totals), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    for (const auto& target : options.targets) requests_.push_back(build_request(options, target, !options.close));
    for (std::size_t i = 0; i < options.connections; i++) {
      connections_.push_back(std::make_unique<Connection>());
      connections_.back()->target = i % addresses.size();
    }
  }
  ~Generator() { close(epoll_); }
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  // Returns the measured seconds; what ends in the warm-up is not counted.
  double run() {
    const Point start = Steady::now();
    measure_from_ = start + to_duration(options_.warm_seconds);
    end_ = measure_from_ + to_duration(options_.seconds);
    const bool open = options_.mode == "open";
    const auto interval = to_duration(1 / options_.rate);
    Point due = start;
    if (open) {
      for (auto& connection : connections_) idle_.push_back(connection.get());
      // The kernel's epoll timeout has millisecond steps; this one does not.
      timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
      epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
      epoll_ctl(epoll_, EPOLL_CTL_ADD, timer_, &event);
    } else {
      for (auto& connection : connections_) begin(*connection, Steady::now());
    }
    Point next_sweep = start + 100ms;
    for (;;) {
      Point now = Steady::now();
      if (now >= end_ && (active_ == 0 || now >= end_ + to_duration(options_.timeout_ms / 1000))) break;
      if (open) {
        while (due <= now && due < end_) {
          waiting_.push_back(due);
          due += interval;
        }
        dispatch();
        if (due < end_) arm(due);
      } else if (now >= end_ && active_ == 0) {
        break;
      }
      epoll_event events[256];
      const int count = epoll_wait(epoll_, events, 256, 20);
      for (int i = 0; i < count; i++) {
        if (events[i].data.ptr != nullptr) {
          on_event(*static_cast<Connection*>(events[i].data.ptr), events[i].events);
        } else {
          std::uint64_t ticks = 0;
          [[maybe_unused]] const auto ignored = read(timer_, &ticks, sizeof ticks);
        }
      }
      if (now >= next_sweep) {
        sweep(now);
        next_sweep = now + 100ms;
      }
    }
    for (const Point at : waiting_) {
      if (at >= measure_from_)
        totals_.fail(&Totals::timeouts,
                     "a request was still waiting for a free connection at the end; use more --connections");
    }
    for (auto& connection : connections_) {
      if (connection->busy && connection->due >= measure_from_ && connection->due < end_)
        totals_.fail(&Totals::timeouts, "no answer until the end");
      drop(*connection);
    }
    if (timer_ >= 0) close(timer_);
    return std::chrono::duration<double>(std::min(Steady::now(), end_) - measure_from_).count();
  }

 private:
  struct Connection {
    int fd = -1;
    std::size_t target = 0, sent = 0;
    bool busy = false, connecting = false;
    Point due;  // the moment its latency counts from
    Response response;
  };

  static Steady::duration to_duration(double seconds) {
    return std::chrono::duration_cast<Steady::duration>(std::chrono::duration<double>(seconds));
  }

  void arm(Point at) {
    const auto left = std::max<Steady::duration>(at - Steady::now(), 1us);
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
    const itimerspec spec{.it_interval = {}, .it_value = {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000}};
    timerfd_settime(timer_, 0, &spec, nullptr);
  }

  void dispatch() {
    while (!waiting_.empty() && !idle_.empty()) {
      Connection* connection = idle_.front();
      idle_.pop_front();
      const Point due = waiting_.front();
      waiting_.pop_front();
      begin(*connection, due);
    }
  }

  void begin(Connection& c, Point due) {
    c.busy = true;
    active_++;
    c.due = due;
    c.sent = 0;
    if (c.fd < 0) {
      totals_.connects++;
      c.fd = open_socket(SOCK_NONBLOCK);
      c.response.next();
      const auto& address = addresses_[c.target];
      const int rc = connect(c.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
      if (rc != 0 && errno != EINPROGRESS)
        return finish(c, &Totals::refused, std::format("connect: {}", std::strerror(errno)));
      c.connecting = rc != 0;
      epoll_event event{.events = EPOLLIN | (c.connecting ? static_cast<std::uint32_t>(EPOLLOUT) : 0U),
                        .data = {.ptr = &c}};
      epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &event);
      if (c.connecting) return;
    }
    flush(c);
  }

  void flush(Connection& c) {
    const std::string& request = requests_[c.target];
    while (c.sent < request.size()) {
      const ssize_t put = send(c.fd, request.data() + c.sent, request.size() - c.sent, MSG_NOSIGNAL);
      if (put < 0 && errno == EAGAIN) {
        epoll_event event{.events = EPOLLIN | EPOLLOUT, .data = {.ptr = &c}};
        epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &event);
        c.connecting = true;  // waits for EPOLLOUT, as a connection in the making does
        return;
      }
      if (put < 0) return finish(c, &Totals::refused, std::format("send: {}", std::strerror(errno)));
      c.sent += static_cast<std::size_t>(put);
    }
  }

  void on_event(Connection& c, std::uint32_t events) {
    if (c.fd < 0) return;
    if (c.connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) return finish(c, &Totals::refused, std::format("connect: {}", std::strerror(error)));
      c.connecting = false;
      epoll_event event{.events = EPOLLIN, .data = {.ptr = &c}};
      epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &event);
      flush(c);
      if (c.fd < 0) return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
    const ssize_t got = recv(c.fd, buffer_, sizeof buffer_, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (!c.busy) return drop(c);  // closed while idle: the next request opens it anew
    if (got < 0) return finish(c, &Totals::refused, std::format("recv: {}", std::strerror(errno)));
    if (got == 0) {
      if (!c.response.finish()) return finish(c, &Totals::refused, "the connection ended before the response did");
      return complete(c);
    }
    totals_.bytes += static_cast<std::uint64_t>(got);
    if (!c.response.feed(buffer_, static_cast<std::size_t>(got)))
      return finish(c, &Totals::refused, "the answer is not HTTP");
    if (c.response.complete()) complete(c);
  }

  void complete(Connection& c) {
    if (c.response.status() != options_.expect) {
      return finish(c, &Totals::wrong_status,
                    std::format("status {} instead of {}", c.response.status(), options_.expect));
    }
    const Point now = Steady::now();
    if (now - c.due > to_duration(options_.timeout_ms / 1000))
      return finish(c, &Totals::timeouts, "no answer in time");
    if (c.due >= measure_from_ && c.due < end_) totals_.latencies.add(now - c.due);
    const bool keep = c.response.keep_alive();
    c.response.next();
    c.busy = false;
    active_--;
    if (!keep) drop(c);
    rest(c, now);
  }

  void finish(Connection& c, std::uint64_t Totals::* kind, const std::string& text) {
    if (c.due >= measure_from_) totals_.fail(kind, options_.targets[c.target] + ": " + text);
    drop(c);
    c.busy = false;
    active_--;
    // A refused connection must not spin: it waits until the next sweep.
    failed_.push_back(&c);
  }

  void rest(Connection& c, Point now) {
    if (options_.mode == "open") {
      idle_.push_back(&c);
      dispatch();
    } else if (now < end_) {
      begin(c, now);
    }
  }

  void sweep(Point now) {
    for (auto& c : connections_) {
      if (c->busy && now - c->due > to_duration(options_.timeout_ms / 1000))
        finish(*c, &Totals::timeouts, "no answer in time");
    }
    std::vector<Connection*> again;
    again.swap(failed_);
    for (Connection* c : again) rest(*c, now);
  }

  void drop(Connection& c) {
    if (c.fd >= 0) close(c.fd);
    c.fd = -1;
    c.connecting = false;
  }

  const Options& options_;
  const std::vector<sockaddr_in>& addresses_;
  Totals& totals_;
  int epoll_, timer_ = -1;
  Point measure_from_, end_;
  std::size_t active_ = 0;
  std::vector<std::string> requests_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::deque<Connection*> idle_;
  std::deque<Point> waiting_;
  std::vector<Connection*> failed_;
  char buffer_[256 * 1024];
};

std::string to_json(const std::string& mode, double seconds, Totals& totals) {
  std::string escaped;
  for (const char c : totals.first_error) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  auto& l = totals.latencies;
  return std::format(
      R"({{"mode":"{}","seconds":{:.3f},"requests":{},"rate":{:.1f},"errors":{},"refused":{},"timeouts":{},"wrong_status":{},)"
      R"("connects":{},"bytes":{},"mean_us":{:.1f},"p50_us":{:.1f},"p90_us":{:.1f},"p99_us":{:.1f},"p999_us":{:.1f},"max_us":{:.1f},"first_error":"{}"}})",
      mode, seconds, l.count(), seconds > 0 ? static_cast<double>(l.count()) / seconds : 0, totals.errors,
      totals.refused, totals.timeouts, totals.wrong_status, totals.connects, totals.bytes, l.mean_us(),
      l.percentile_us(0.5), l.percentile_us(0.9), l.percentile_us(0.99), l.percentile_us(0.999), l.percentile_us(1),
      escaped);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"An HTTP/1.1 load generator with exact percentiles.", "skerry-bench-load"};
  app.add_option("TARGETS", options.targets, "ADDRESS:PORT of each server (IPv4)");
  app.add_option("--targets", options.targets_file, "A file with one ADDRESS:PORT a line")->check(CLI::ExistingFile);
  app.add_option("--mode", options.mode, "cold, closed or open")
      ->check(CLI::IsMember({"cold", "closed", "open"}))
      ->capture_default_str();
  app.add_option("--path", options.path)->capture_default_str();
  app.add_option("--method", options.method)->capture_default_str();
  app.add_option("--host", options.host, "Host header [the target]");
  app.add_option("--body", options.body_file, "File that is sent as the body")->check(CLI::ExistingFile);
  app.add_option("--content-type", options.content_type)->capture_default_str();
  app.add_option("--expect", options.expect, "The status that is right")->capture_default_str();
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 20000))->capture_default_str();
  app.add_flag("--close", options.close, "closed, open: a connection of its own for every request");
  app.add_option("--rate", options.rate, "open: requests a second")->check(CLI::Range(0.1, 1e6))->capture_default_str();
  app.add_option("--seconds", options.seconds)->check(CLI::Range(0.1, 86400.0))->capture_default_str();
  app.add_option("--warm-seconds", options.warm_seconds, "Load before it that is not counted")->capture_default_str();
  app.add_option("--rounds", options.rounds, "cold: how often over all targets")->capture_default_str();
  app.add_option("--spacing", options.spacing_ms, "cold: milliseconds before each call")->capture_default_str();
  app.add_option("--timeout", options.timeout_ms, "Milliseconds after which a request has failed")
      ->capture_default_str();
  app.add_option("--errors-max", options.errors_max, "So many may fail")->capture_default_str();
  app.add_option("--samples", options.samples, "File to which every latency is appended, in microseconds");
  app.add_option("--netns", options.netns, "Network namespace to call from (a file)")->check(CLI::ExistingFile);
  CLI11_PARSE(app, argc, argv);

  if (!options.targets_file.empty()) {
    std::ifstream file(options.targets_file);
    for (std::string line; std::getline(file, line);) {
      if (!line.empty()) options.targets.push_back(line);
    }
  }
  if (options.targets.empty()) die("no target; name at least one ADDRESS:PORT");
  std::vector<sockaddr_in> addresses;
  for (const auto& target : options.targets) {
    const auto address = parse_target(target);
    if (!address) die(std::format("'{}' is not an IPv4 address and port; write 10.42.0.7:8080", target));
    addresses.push_back(*address);
  }
  if (!options.netns.empty()) {
    const int fd = open(options.netns.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
      die(std::format("cannot enter {}: {}", options.netns, std::strerror(errno)));
    close(fd);
  }

  Totals totals;
  double seconds = 0;
  if (options.mode == "cold") {
    const Point start = Steady::now();
    run_cold(options, addresses, totals);
    seconds = std::chrono::duration<double>(Steady::now() - start).count();
  } else {
    auto generator = std::make_unique<Generator>(options, addresses, totals);
    seconds = generator->run();
  }
  if (!options.samples.empty()) totals.latencies.append_to(options.samples);
  std::puts(to_json(options.mode, seconds, totals).c_str());
  if (totals.errors > options.errors_max) {
    std::fprintf(stderr, "skerry-bench-load: %llu requests failed; the first: %s\n",
                 static_cast<unsigned long long>(totals.errors), totals.first_error.c_str());
    return 1;
  }
  return 0;
}
