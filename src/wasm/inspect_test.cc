// SPDX-License-Identifier: Apache-2.0
#include "wasm/inspect.h"

#include <gmock/gmock.h>

#include <format>

namespace skerry::wasm {
namespace {
using testing::HasSubstr;

std::string leb(std::uint64_t v) {
  std::string out;
  do {
    out.push_back(static_cast<char>((v & 0x7f) | (v > 0x7f ? 0x80 : 0)));
    v >>= 7;
  } while (v != 0);
  return out;
}
std::string text(std::string_view v) { return leb(v.size()) + std::string(v); }
std::string section(int id, const std::string& body) { return std::string(1, static_cast<char>(id)) + leb(body.size()) + body; }
const std::string kHeader{"\0asm\1\0\0\0", 8};
// Types: 0 ()->(), 1 ()->(i64), 2 (i32,i32)->(), 3 (i32,i32)->(i32)
const std::string kTypes = section(1, leb(4) + std::string("\x60\0\0", 3) + std::string("\x60\0\1\x7e", 4) + std::string("\x60\2\x7f\x7f\0", 5) +
                                           std::string("\x60\2\x7f\x7f\1\x7f", 6));
std::string import(std::string_view module, std::string_view name, int type) {
  return section(2, leb(1) + text(module) + text(name) + std::string(1, '\0') + leb(static_cast<std::uint64_t>(type)));
}
// A module with one function of a type, exported under a name, and a memory.
std::string module_with(std::string_view name, int type, const std::string& imports = "", std::uint64_t locals = 0, std::string memory = {"\0\1", 2}) {
  const auto index = leb(imports.empty() ? 0 : 1);
  const auto body = leb(1) + leb(locals) + "\x7f" + std::string("\0\x0b", 2);
  return kHeader + kTypes + imports + section(3, leb(1) + leb(static_cast<std::uint64_t>(type))) + section(5, leb(1) + memory) +
         section(7, leb(2) + text("memory") + std::string("\2\0", 2) + text(name) + std::string(1, '\0') + index) +
         section(10, leb(1) + leb(body.size()) + body);
}
std::string refusal(const std::string& bytes) {
  const auto got = inspect(bytes);
  return got ? "accepted" : got.error().what;
}

TEST(Inspect, RecognisesTheKinds) {
  EXPECT_EQ(inspect(module_with("handle_request", 1)).value().kind, Kind::HttpHandler);
  EXPECT_EQ(inspect(module_with("_start", 0)).value().kind, Kind::Command);
  EXPECT_EQ(inspect(module_with("add", 3)).value().kind, Kind::Library);
  EXPECT_EQ(inspect(module_with("_start", 0, import("wasi_snapshot_preview1", "sock_accept", 3))).value().kind, Kind::SocketServer);
}

TEST(Inspect, ReportsImportsExportsMemoryAndLocals) {
  const auto got = inspect(module_with("handle_request", 1, import("http_handler", "get_uri", 3), 7, {"\1\2\5", 3})).value();
  ASSERT_EQ(got.imports.size(), 1u);
  EXPECT_EQ(got.imports[0].name, "get_uri");
  EXPECT_EQ(got.imports[0].type, (FunctionType{"ii", "i"}));
  ASSERT_EQ(got.memories.size(), 1u);
  EXPECT_EQ(got.memories[0].pages_min, 2u);
  EXPECT_EQ(got.memories[0].pages_max, 5u);
  EXPECT_EQ(got.locals_max, 7u);
  EXPECT_EQ(got.functions, 1u);
  ASSERT_NE(got.find_export("handle_request"), nullptr);
  EXPECT_EQ(got.find_export("nothing"), nullptr);
}

TEST(Inspect, RefusesByNameWithTheRemedy) {
  EXPECT_THAT(refusal({"\0asm\x0d\0\1\0", 8}), HasSubstr("component"));
  EXPECT_THAT(refusal({"\0asm\2\0\0\0", 8}), HasSubstr("version 2"));
  EXPECT_THAT(refusal("\x7f" "ELF\2\1\1"), HasSubstr("native ELF"));
  EXPECT_THAT(refusal("(module)"), HasSubstr("wat2wasm"));
  EXPECT_THAT(refusal(""), HasSubstr("does not begin"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("wasix_32v1", "thread_spawn", 3))), HasSubstr("WASIX"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("env", "emscripten_resize_heap", 3))), HasSubstr("emscripten"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("env", "invoke_vii", 3))), HasSubstr("emscripten"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("a", "b", 3))), HasSubstr("emscripten"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("wasi_unstable", "fd_write", 3))), HasSubstr("older than preview 1"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("wasi:io/poll@0.2.0", "poll", 3))), HasSubstr("component model"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("wasi_nn", "load", 3))), HasSubstr("wasi_nn.load"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("env", "my_function", 3))), HasSubstr("env.my_function (ii)->(i)"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("http_handler", "get_uri", 2))), HasSubstr("http_handler.get_uri"));  // wrong type
  EXPECT_THAT(refusal(module_with("handle_request", 0)), HasSubstr("handle_request has the type ()->()"));
  EXPECT_THAT(refusal(module_with("_start", 3)), HasSubstr("_start takes parameters"));
  EXPECT_THAT(refusal(module_with("_start", 0, "", kLocalsMax + 1)), HasSubstr("50001 locals"));
  EXPECT_THAT(refusal(module_with("_start", 0, "", 0, {"\3\1\2", 3})), HasSubstr("shared memory"));
  EXPECT_THAT(refusal(module_with("_start", 0, "", 0, {"\4\1", 2})), HasSubstr("64-bit memory"));
  EXPECT_EQ(inspect(std::string(kModuleBytesMax + 1, 'x')).error().code, Errc::Exhausted);
}

TEST(Inspect, SocketsOfWasmEdgeBelongToSocketServers) {
  const auto open = import("wasi_snapshot_preview1", "sock_open", 3);
  EXPECT_EQ(inspect(module_with("_start", 0, open)).value().kind, Kind::SocketServer);
  EXPECT_THAT(refusal(module_with("handle_request", 1, open)), HasSubstr("wasi_snapshot_preview1.sock_open (ii)->(i): a socket of its own"));
  EXPECT_THAT(refusal(module_with("_start", 0, import("wasi_snapshot_preview1", "sock_getaddrinfo", 3))), HasSubstr("sock_getaddrinfo"));
  EXPECT_EQ(inspect(module_with("handle_request", 1, import("wasi_snapshot_preview1", "sock_shutdown", 3))).value().kind, Kind::HttpHandler);
}

TEST(Inspect, AHandlerWithoutExportedMemoryIsRefused) {
  const auto bytes = kHeader + kTypes + section(3, leb(1) + leb(1)) + section(7, leb(1) + text("handle_request") + std::string("\0\0", 2)) +
                     section(10, leb(1) + leb(2) + std::string("\0\x0b", 2));
  EXPECT_THAT(refusal(bytes), HasSubstr("--export-memory"));
}

TEST(Inspect, EveryTruncationIsAnErrorOrAWholeModule) {
  const auto bytes = module_with("handle_request", 1, import("http_handler", "get_uri", 3));
  for (std::size_t n = 0; n < bytes.size(); ++n) (void)inspect(std::string_view(bytes).substr(0, n)).has_value();
  for (std::size_t i = 8; i < bytes.size(); ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      auto bad = bytes;
      bad[i] = static_cast<char>(bad[i] ^ flip);
      (void)inspect(bad).has_value();
      (void)strip_foreign_native_code(bad);
    }
  }
}

TEST(Inspect, CountsBeyondTheSectionAllocateNothing) {
  EXPECT_THAT(refusal(kHeader + section(1, leb(0xffffffff))), HasSubstr("a count is larger"));
  EXPECT_THAT(refusal(kHeader + section(3, leb(900'000) + "x")), HasSubstr("a count is larger"));
  EXPECT_THAT(refusal(kHeader + std::string("\1\xff\xff\xff\xff\xff\xff", 7)), HasSubstr("too long"));
  EXPECT_THAT(refusal(kHeader + kTypes + kTypes), HasSubstr("out of order"));
}

TEST(Inspect, ForeignNativeCodeIsReportedAndStripped) {
  const auto plain = module_with("_start", 0);
  const auto with = plain + section(0, text("wasmedge") + std::string(1000, 'n')) + section(0, text("name") + "x");
  EXPECT_TRUE(inspect(with).value().has_foreign_native_code);
  const auto stripped = strip_foreign_native_code(with);
  EXPECT_EQ(stripped, plain + section(0, text("name") + "x"));
  EXPECT_FALSE(inspect(stripped).value().has_foreign_native_code);
}

TEST(RefuseKind, ServesHandlersAndDeclaredWagiCommands) {
  EXPECT_TRUE(refuse_kind(Kind::HttpHandler, Handler::Detected));
  EXPECT_TRUE(refuse_kind(Kind::Command, Handler::Wagi));
  EXPECT_TRUE(refuse_kind(Kind::Command, Handler::Any));
  EXPECT_NE(refuse_kind(Kind::Command, Handler::Detected).error().what.find("skerry.dev/handler: wagi"), std::string::npos);
  EXPECT_FALSE(refuse_kind(Kind::HttpHandler, Handler::Wagi));
  EXPECT_FALSE(refuse_kind(Kind::Command, Handler::HttpWasm));
  for (const auto kind : {Kind::SocketServer, Kind::Library}) EXPECT_EQ(refuse_kind(kind, Handler::Any).error().code, Errc::Unsupported);
}

}  // namespace
}  // namespace skerry::wasm
