// SPDX-License-Identifier: Apache-2.0
#include "cli/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(TokenFile, ReadsWhatKubeApiserverReads) {
  const auto tokens = parse_token_file("0123456789abcdef,admin,u1,\"system:masters,people\"\r\n\nfedcba9876543210,bob,u2\n\"quoted,\"\"token\"\"\",\"c d\",u3,one").value();
  ASSERT_EQ(tokens.size(), 3u);
  EXPECT_EQ(tokens[0].token, "0123456789abcdef");
  EXPECT_EQ(tokens[0].user.name, "admin");
  EXPECT_THAT(tokens[0].user.groups, ElementsAre("system:masters", "people"));
  EXPECT_TRUE(tokens[1].user.groups.empty());
  EXPECT_EQ(tokens[2].token, "quoted,\"token\"");
  EXPECT_EQ(tokens[2].user.name, "c d");
  EXPECT_THAT(tokens[2].user.groups, ElementsAre("one"));
}

TEST(TokenFile, NamesTheLineAndNeverTheToken) {
  for (const auto& [text, why] : {std::pair{"0123456789abcdef", "not three or four values"},
                                  {"0123456789abcdef,bob", "not three or four values"},
                                  {"0123456789abcdef,,u", "no user"},
                                  {"0123456789a,bob,u", "shorter than 12"},
                                  {"\"0123456789abcdef,bob,u", "not three or four values"},
                                  {"\"0123456789abcdef\"x,bob,u", "not three or four values"},
                                  {"good-token-of-al,al,u\n", "already"}}) {
    const auto parsed = parse_token_file(std::string("good-token-of-al,al,u\n") + text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(parsed.error().what, HasSubstr(why));
    EXPECT_THAT(parsed.error().what, HasSubstr("line 2"));
    EXPECT_THAT(parsed.error().what, Not(HasSubstr("0123456789a")));
  }
}

}  // namespace
}  // namespace skerry::cli
