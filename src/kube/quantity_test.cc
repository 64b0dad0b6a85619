// SPDX-License-Identifier: Apache-2.0
#include "kube/quantity.h"

#include <gtest/gtest.h>

#include <utility>

namespace skerry::kube {
namespace {

TEST(Quantity, CanonicalFormIsThatOfKubernetes) {
  for (const auto& [text, canonical] : {std::pair{"0", "0"}, {"100m", "100m"}, {"1000m", "1"}, {"0.5", "500m"}, {"1.5Gi", "1536Mi"},
                                        {"1024Mi", "1Gi"}, {"128Mi", "128Mi"}, {"1Ki", "1Ki"}, {"0.5Ki", "512"}, {"1.5", "1500m"},
                                        {"12e6", "12e6"}, {"12E6", "12e6"}, {"1e3", "1e3"}, {"1000", "1k"}, {"1234567", "1234567"}, {"1M", "1M"}, {"-5", "-5"},
                                        {"+5", "5"}, {".5", "500m"}, {"5.", "5"}, {"1n", "1n"}, {"0.1n", "1n"}, {"10E", "9223372036854775807"},
                                        {"1E", "1E"}, {"0Ki", "0"}, {"0.3Ki", "307200m"}})
    EXPECT_EQ(Quantity::parse(text)->str(), canonical) << text;
}

TEST(Quantity, RefusesNonsense) {
  for (const char* text : {"", "abc", "1x", "1Mii", "e5", "1e", "1 ", "--1", "1mm", ".", "+", "0x1", "1ki"})
    EXPECT_FALSE(Quantity::parse(text)) << text;
  EXPECT_FALSE(Quantity::parse(std::string(1000, '1')));
}

TEST(Quantity, RoundsUpAndCompares) {
  EXPECT_EQ(Quantity::parse("100m")->value(), 1);
  EXPECT_EQ(Quantity::parse("100m")->milli_value(), 100);
  EXPECT_EQ(Quantity::parse("1u")->milli_value(), 1);
  EXPECT_EQ(Quantity::parse("-1.5")->value(), -2);
  EXPECT_EQ(Quantity::parse("128Mi")->value(), 128 * 1024 * 1024);
  EXPECT_LT(*Quantity::parse("999m"), *Quantity::parse("1"));
  EXPECT_EQ(*Quantity::parse("1Gi"), *Quantity::parse("1024Mi"));
  EXPECT_EQ((*Quantity::parse("100m") + *Quantity::parse("900m")).str(), "1");
  EXPECT_EQ((*Quantity::parse("1Gi") - *Quantity::parse("512Mi")).str(), "512Mi");
  EXPECT_EQ((*Quantity::parse("8E") + *Quantity::parse("8E")).value(), INT64_MAX);
  EXPECT_EQ(Quantity::milli(1500).str(), "1500m");
  EXPECT_EQ(Quantity::units(1 << 20, Quantity::Format::BinarySI).str(), "1Mi");
  EXPECT_EQ(Quantity::parse("1e100")->value(), INT64_MAX);
  EXPECT_EQ(Quantity::parse("1e-100")->milli_value(), 1);
}

}  // namespace
}  // namespace skerry::kube
