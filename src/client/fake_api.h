// SPDX-License-Identifier: Apache-2.0
// For tests of the client: a small Kubernetes API for pods, in memory, with a history that can be compacted and answers
// that can be forced. Only what the client asks: it judges nothing.
#pragma once
#include <deque>
#include <format>
#include <map>
#include <string>
#include <vector>

#include "base/text.h"
#include "http/message.h"
#include "rt/loop.h"

namespace skerry::client {

class FakeApi final : public http::Handler {
 public:
  explicit FakeApi(rt::Loop& loop) : loop_(loop), news_(loop) {}

  void put(const std::string& name, const std::string& extra = "") {
    const bool known = pods_.contains(name);
    ++revision;
    pods_[name] = std::format(R"({{"metadata":{{"name":"{}","namespace":"d","uid":"uid-{}","resourceVersion":"{}"{}}}}})", name, name, revision, extra);
    record(known ? "MODIFIED" : "ADDED", pods_[name]);
  }
  void erase(const std::string& name) {
    ++revision;
    record("DELETED", std::format(R"({{"metadata":{{"name":"{}","namespace":"d","uid":"uid-{}","resourceVersion":"{}"}}}})", name, name, revision));
    pods_.erase(name);
  }
  void bookmark() {
    ++revision;
    record("BOOKMARK", std::format(R"({{"metadata":{{"resourceVersion":"{}"}}}})", revision));
  }
  void compact() { compacted_ = revision; }
  void disconnect() {  // every open watch breaks
    ++generation_;
    news_.set();
  }

  rt::Task<http::Response> handle(http::Request request) override {
    requests.push_back(request);
    if (!forced.empty()) {
      auto [status, body] = forced.front();
      forced.pop_front();
      co_return http::make_response(status, "application/json", body);
    }
    const http::Target target = http::Target::parse(request.target).value();
    if (target.param("watch") == "true") {
      http::Response response;
      const auto from = parse_int<std::uint64_t>(target.param("resourceVersion")).value();
      response.stream = std::make_unique<Events>(*this, from);
      co_return response;
    }
    // A list: pages by position.
    const auto limit = parse_int<std::size_t>(target.param("limit")).value_or(1000);
    const auto from = parse_int<std::size_t>(target.param("continue")).value_or(0);
    std::string items, next;
    std::size_t at = 0;
    for (const auto& [name, json] : pods_) {
      if (at >= from && at < from + limit) items += (items.empty() ? "" : ",") + json;
      if (++at == from + limit && at < pods_.size()) next = std::to_string(at);
    }
    co_return http::make_response(200, "application/json",
                                  std::format(R"({{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"{}","continue":"{}"}},"items":[{}]}})",
                                              revision, next, items));
  }

  std::uint64_t revision = 100;
  std::vector<http::Request> requests;
  std::deque<std::pair<int, std::string>> forced;  // answers to the next requests
  int watches_open = 0;
  bool deaf = false;  // the watches that are open now hear nothing more, and do not end

 private:
  struct Line {
    std::uint64_t revision = 0;
    std::string text;
  };
  void record(std::string_view type, const std::string& object) {
    history_.push_back({revision, std::format("{{\"type\":\"{}\",\"object\":{}}}\n", type, object)});
    news_.set();
  }
  class Events final : public http::Stream {
   public:
    Events(FakeApi& api, std::uint64_t from) : api_(api), from_(from), generation_(api.generation_) { ++api_.watches_open; }
    ~Events() override { --api_.watches_open; }
    rt::Task<std::optional<http::Chunk>> next() override {
      for (;;) {
        deaf_ = deaf_ || api_.deaf;
        if (deaf_) {
          rt::Event never(api_.loop_);
          CO_TRY_OK(co_await never.wait());
        }
        if (generation_ != api_.generation_) co_return Fail({Errc::Unavailable, "broken line"});
        if (from_ < api_.compacted_) {
          from_ = UINT64_MAX;
          co_return chunk(R"({"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}})" "\n");
        }
        for (const auto& line : api_.history_) {
          if (line.revision <= from_) continue;
          from_ = line.revision;
          co_return chunk(line.text);
        }
        api_.news_.reset();
        CO_TRY_OK(co_await api_.news_.wait());
      }
    }

   private:
    static http::Chunk chunk(std::string text) { return std::make_shared<const std::string>(std::move(text)); }
    FakeApi& api_;
    std::uint64_t from_;
    int generation_;
    bool deaf_ = false;
  };

  rt::Loop& loop_;
  std::map<std::string, std::string> pods_;
  std::vector<Line> history_;
  std::uint64_t compacted_ = 0;
  int generation_ = 0;
  rt::Event news_;
};

}  // namespace skerry::client
