// SPDX-License-Identifier: Apache-2.0
#include "net/dns_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/testing_dns.h"

namespace skerry::net {
namespace {

using namespace std::literals;

// "web.x A", recursion wanted, id 0x1234; `rest` follows the question, `counts` are the last three of the header.
std::string query(std::string_view flags = "\x01\x00"sv, std::string_view counts = "\0\0\0\0\0\0"sv,
                  std::string_view rest = "") {
  return "\x12\x34"s + std::string(flags) + "\0\x01"s + std::string(counts) + "\3Web\1x\0\0\1\0\1"s + std::string(rest);
}
constexpr std::string_view kOneExtra{"\0\0\0\0\0\1", 6}, kTwoExtra{"\0\0\0\0\0\2", 6};
constexpr std::string_view kOptions{"\0\0\x29\x10\0\0\0\x80\0\0\0", 11};  // 4096 bytes, DO

DnsAnswer with_addresses(std::size_t count) {
  DnsAnswer out{.authoritative = true};
  for (std::uint32_t i = 0; i < count; ++i)
    out.answers.push_back({.name = "Web.x", .ttl = 5, .data = os::Ipv4{10u << 24 | i}});
  return out;
}

TEST(DnsMessage, ReadsAQuery) {
  const auto plain = read_query(query());
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->id, 0x1234);
  EXPECT_EQ(plain->question, (DnsQuestion{"Web.x", DnsType::A, 1}));
  EXPECT_TRUE(plain->recursion_desired);
  EXPECT_FALSE(plain->edns);
  EXPECT_EQ(plain->udp_bytes_max, 512);
  const auto edns = read_query(query("\x01\x00"sv, kOneExtra, kOptions));
  ASSERT_TRUE(edns);
  EXPECT_TRUE(edns->edns && edns->dnssec_ok);
  EXPECT_EQ(edns->udp_bytes_max, 4096);
  const auto small = read_query(query("\x01\x00"sv, kOneExtra, "\0\0\x29\0\x10\0\0\0\0\0\0"sv));
  ASSERT_TRUE(small);
  EXPECT_EQ(small->udp_bytes_max, 512) << "less is not believed";
}

TEST(DnsMessage, SaysWhyAQueryIsNotServed) {
  const auto code = [](const std::string& bytes) -> std::string {
    const auto read = read_query(bytes);
    if (read) return "read";
    if (read.error().empty()) return "silence";
    EXPECT_EQ(read.error().substr(0, 2), bytes.substr(0, 2));
    EXPECT_NE(read.error()[2] & 0x80, 0);
    return std::to_string(read.error()[3] & 15);
  };
  EXPECT_EQ(code(""), "silence");
  EXPECT_EQ(code(query().substr(0, 11)), "silence");
  EXPECT_EQ(code(query("\x81\x80"sv)), "silence") << "an answer is not answered";
  EXPECT_EQ(code(query().substr(0, 12)), "1") << "its question is missing";
  EXPECT_EQ(code(query().substr(0, 20)), "1");
  EXPECT_EQ(code("\x12\x34\x01\0\0\0\0\0\0\0\0\0"s), "1") << "no question";
  EXPECT_EQ(code("\x12\x34\x01\0\0\2\0\0\0\0\0\0\1x\0\0\1\0\1\1y\0\0\1\0\1"s), "1") << "two questions";
  EXPECT_EQ(code("\x12\x34\x01\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1"s), "1") << "a name that points to itself";
  EXPECT_EQ(code("\x12\x34\x01\0\0\1\0\0\0\0\0\0\1a\xc0\x05\0\1\0\1"s), "1") << "a name that ends in the header";
  EXPECT_EQ(code(query("\x29\x00"sv)), "4") << "UPDATE";
  EXPECT_EQ(code(query("\x21\x00"sv)), "4") << "NOTIFY";
  EXPECT_EQ(code(query("\x79\x00"sv)), "4") << "an opcode without a name";
  EXPECT_EQ(code(query("\x01\x00"sv, kTwoExtra, std::string(kOptions) + std::string(kOptions))), "1");
  EXPECT_EQ(code(query("\x01\x00"sv, kOneExtra, "\0\0\x29\x10\0\0\x01\0\0\0\0"sv)), "0")
      << "BADVERS is 16: its low bits";
}

TEST(DnsMessage, AnswersInTheCaseOfTheQuestion) {
  const auto read = read_query(query("\x01\x10"sv));
  ASSERT_TRUE(read);
  const std::string bytes = write_answer(*read, with_addresses(1), 512);
  EXPECT_EQ(bytes, "\x12\x34\x85\x90\0\1\0\1\0\0\0\0\3Web\1x\0\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\0"s);
}

TEST(DnsMessage, EchoesTheOptions) {
  const auto read = read_query(query("\x01\x00"sv, kOneExtra, kOptions));
  ASSERT_TRUE(read);
  const std::string bytes = write_answer(*read, {}, 512);
  EXPECT_THAT(bytes, ::testing::EndsWith("\0\0\x29\x04\xd0\0\0\x80\0\0\0"s));
}

TEST(DnsMessage, CutsToSize) {
  const auto read = read_query(query());
  ASSERT_TRUE(read);
  for (const std::size_t limit : {12u, 50u, 512u, 1232u, 65535u}) {
    const std::string bytes = write_answer(*read, with_addresses(100), limit);
    if (limit >= 23) {
      EXPECT_LE(bytes.size(), limit);
    }
    EXPECT_EQ(reply_truncated(bytes), limit < 1623);
    const auto back = read_reply(bytes);
    ASSERT_TRUE(back);
    if (limit >= 512) {
      EXPECT_EQ(back->answers.size(), std::min<std::size_t>((limit - 23) / 16, 100)) << "as many as fit";
    }
  }
  auto extra = with_addresses(1);
  extra.additional = with_addresses(100).answers;
  const std::string bytes = write_answer(*read, extra, 512);
  EXPECT_FALSE(reply_truncated(bytes)) << "what is additional may be left out";
  EXPECT_EQ(read_reply(bytes)->answers.size(), 1u);
}

TEST(DnsMessage, WritesEveryKindOfRecord) {
  const auto read = read_query(query());
  ASSERT_TRUE(read);
  const auto record = [](DnsType type, auto data) {
    return DnsRecord{.name = "Web.x", .type = type, .ttl = 5, .data = data};
  };
  DnsAnswer all{.authoritative = true};
  all.answers = {record(DnsType::A, os::Ipv4{1}),
                 record(DnsType::Aaaa, Ipv6Bytes{1}),
                 record(DnsType::Cname, DnsTarget{"other.x"}),
                 record(DnsType::Ns, DnsTarget{"ns.x"}),
                 record(DnsType::Ptr, DnsTarget{"ptr.x"}),
                 record(DnsType::Txt, DnsText{"1.1.0"}),
                 record(DnsType::Srv, DnsSrv{0, 100, 80, "Web.x"}),
                 record(DnsType::Soa, DnsSoa{"ns.x", "mail.x", 1, 2, 3, 4, 5}),
                 record(DnsType::Hinfo, DnsHinfo{"RFC8482", ""})};
  const std::string bytes = write_answer(*read, all, 512);
  const auto back = read_reply(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(testing::text_of(*back),
            "NOERROR\n  Web.x 5 A 0.0.0.1\n  Web.x 5 AAAA 01000000000000000000000000000000\n  Web.x 5 CNAME other.x\n");
  EXPECT_THAT(bytes, ::testing::HasSubstr("\5"
                                          "1.1.0"s));
  EXPECT_THAT(bytes, ::testing::HasSubstr("\7RFC8482\0"s));
}

TEST(DnsMessage, WhatCannotBeWrittenIsAFailureOfTheServer) {
  const auto read = read_query(query());
  ASSERT_TRUE(read);
  const DnsAnswer wrong{
      .answers = {{.name = "Web.x", .type = DnsType::Cname, .ttl = 5, .data = DnsTarget{std::string(70, 'a')}}}};
  const std::string bytes = write_answer(*read, wrong, 512);
  EXPECT_FALSE(bytes.empty());
  EXPECT_EQ(id_of(bytes), 0x1234);
}

// c-ares reads any byte in a name, and writes only those of host names in a question.
TEST(DnsMessage, AnswersAQuestionWithAnyBytes) {
  const std::string bytes = "\x12\x34\x01\0\0\1\0\0\0\0\0\0\3 \xf2.\1x\0\0\1\0\1"s;
  const auto read = read_query(bytes);
  ASSERT_TRUE(read);
  const std::string reply =
      write_answer(*read, {.code = DnsCode::NxDomain, .authority = with_addresses(1).answers}, 512);
  EXPECT_TRUE(is_reply(reply, 0x1234, read->question));
  EXPECT_EQ(reply, "\x12\x34\x81\3\0\1\0\0\0\0\0\0\3 \xf2.\1x\0\0\1\0\1"s);
}

TEST(DnsMessage, KnowsItsOwnReply) {
  const auto asked = write_query(7, {"www.Example.com", DnsType::A, 1});
  ASSERT_TRUE(asked);
  const auto read = read_query(*asked);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->udp_bytes_max, 1232);
  std::string reply = write_answer(*read, with_addresses(1), 512);
  const DnsQuestion question{"WWW.example.com", DnsType::A, 1};
  EXPECT_TRUE(is_reply(reply, 7, question));
  EXPECT_FALSE(is_reply(reply, 8, question));
  EXPECT_FALSE(is_reply(*asked, 7, question)) << "a query is no reply";
  EXPECT_FALSE(is_reply(reply, 7, {"www.example.org", DnsType::A, 1}));
  EXPECT_FALSE(is_reply(reply, 7, {"www.example.com", DnsType::Aaaa, 1}));
  EXPECT_FALSE(is_reply(reply.substr(0, reply.size() - 1), 7, question)) << "cut off";
  set_id(reply, 8);
  EXPECT_TRUE(is_reply(reply, 8, question));
  EXPECT_FALSE(write_query(7, {std::string(300, 'a'), DnsType::A, 1}));
}

TEST(DnsMessage, TakesNamesApart) {
  EXPECT_THAT(label_list("A.b"), ::testing::ElementsAre("a", "b"));
  EXPECT_THAT(label_list("a\\.b.c"), ::testing::ElementsAre("a\\.b", "c"));
  EXPECT_THAT(label_list("a.b."), ::testing::ElementsAre("a", "b"));
  EXPECT_THAT(label_list(""), ::testing::IsEmpty());
}

}  // namespace
}  // namespace skerry::net
