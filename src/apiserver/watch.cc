// SPDX-License-Identifier: Apache-2.0
// Watches: a stream of the store's own texts; each is made once for all watchers. A Table or a bookmark is made for one.
#include "store/watch.h"

#include <format>

#include "apiserver/selection.h"
#include "http/in_process.h"
#include "kube/table.h"

namespace skerry::apiserver {
namespace {

enum class Bookmarks : std::uint8_t { Off, On };

http::Chunk chunk(std::string text) { return std::make_shared<const std::string>(std::move(text)); }

class WatchStream final : public http::Stream {
 public:
  struct Shape {
    std::optional<kube::IncludeObject> table;
    Bookmarks bookmarks;
    Instant deadline;
  };
  WatchStream(Server& server, const ResourceType& type, std::unique_ptr<store::Watch> watch, Shape shape)
      : server_(server), type_(type), watch_(std::move(watch)), shape_(shape), bookmark_at_(server.clock.instant() + server.options.bookmark_every) {
    ++server_.watches;
    ++server_.watches_of[&type_];
  }
  ~WatchStream() override {
    --server_.watches;
    --server_.watches_of[&type_];
  }

  rt::Task<std::optional<http::Chunk>> next() override {
    for (;;) {
      if (ended_) co_return std::optional<http::Chunk>();
      const Instant now = server_.clock.instant();
      if (now >= shape_.deadline) {
        ended_ = true;
        const auto left = watch_->poll();
        if (left && *left) co_return std::optional(render(**left));
        if (left && shape_.bookmarks == Bookmarks::On) co_return std::optional(bookmark());
        continue;
      }
      const bool marks = shape_.bookmarks == Bookmarks::On;
      auto event = co_await watch_->next(std::min(shape_.deadline, marks ? bookmark_at_ : shape_.deadline) - now);
      if (!event) {
        ended_ = true;
        // A server that stops ends its streams; the client comes back to the next one.
        if (event.error().code == Errc::Unavailable) co_return std::optional<http::Chunk>();
        co_return std::optional(failure(event.error()));
      }
      if (*event) co_return std::optional(render(**event));
      if (marks && server_.clock.instant() >= bookmark_at_) {
        bookmark_at_ = server_.clock.instant() + server_.options.bookmark_every;
        co_return std::optional(bookmark());
      }
    }
  }

 private:
  http::Chunk render(const store::WatchEvent& event) {
    if (!shape_.table) return event.line();
    const std::string table = kube::table_json(type_, *event.object, *shape_.table, server_.clock.now(), columns_);
    columns_ = kube::Columns::Omitted;
    return store::make_line(event.type, table);
  }
  // Only when the watch has just answered that nothing is left: then the store's revision has been reached.
  http::Chunk bookmark() const {
    const auto revision = server_.store.revision().value();
    if (shape_.table) {
      return chunk(std::format(R"({{"type":"BOOKMARK","object":{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{{"resourceVersion":"{}"}},)"
                               R"("columnDefinitions":null,"rows":null}}}})" "\n", revision));
    }
    return chunk(std::format(R"({{"type":"BOOKMARK","object":{{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{}","creationTimestamp":null}}}}}})" "\n",
                             type_.kind, type_.api_version, revision));
  }
  static http::Chunk failure(const Error& error) {
    return chunk(std::format("{{\"type\":\"ERROR\",\"object\":{}}}\n", kube::status_of(error).json()));
  }

  Server& server_;
  const ResourceType& type_;
  std::unique_ptr<store::Watch> watch_;
  Shape shape_;
  Instant bookmark_at_;
  kube::Columns columns_ = kube::Columns::Written;
  bool ended_ = false;
};

http::Response stream(std::unique_ptr<http::Stream> source) {
  http::Response response;
  response.headers.set("Content-Type", kube::kJsonType);
  response.stream = std::move(source);
  return response;
}

}  // namespace

ApiTask<> watch(Call& call) {
  Server& server = call.server;
  CO_TRY_API_OK(check_list_options(call));
  CO_TRY_API(const Selection selection, parse_selection(call));
  CO_TRY_API(const auto revision, parse_revision(call));
  CO_TRY_API(const bool table, wants_table(call));
  CO_TRY_API(const std::size_t seconds, parse_count(call, "timeoutSeconds", 0));
  if (server.watches >= server.options.watches_max) {
    co_return ApiFail(kube::status_too_many_requests(std::format("{} watches are open, which is the limit: try again later", server.watches), 5));
  }
  WatchStream::Shape shape{.table = std::nullopt, .bookmarks = Bookmarks::Off, .deadline = server.clock.instant()};
  if (table) {
    CO_TRY_API(shape.table, kube::parse_include_object(call.param("includeObject")));
  }
  if (is_set(call.target, "allowWatchBookmarks")) shape.bookmarks = Bookmarks::On;
  // Spread over twice the time, so that watches which began together do not end together.
  const auto most = static_cast<std::uint64_t>(server.options.watch_max.count());
  Duration lasts = seconds > 0 ? Duration(std::chrono::seconds(std::min<std::size_t>(seconds, 86'400)))
                               : Duration(static_cast<Duration::rep>(most + server.random.below(most + 1)));
  shape.deadline += lasts;
  auto opened = server.store.watch(call.id(), selection.selected(), revision);
  if (!opened) {
    if (opened.error().code != Errc::Gone) co_return ApiFail(kube::status_of(opened.error()));
    // Clients expect this inside the stream.
    co_return stream(http::stream_of(chunk(std::format("{{\"type\":\"ERROR\",\"object\":{}}}\n", kube::status_gone(opened.error().what).json()))));
  }
  co_return stream(std::make_unique<WatchStream>(server, call.type(), std::move(*opened), shape));
}

}  // namespace skerry::apiserver
