// SPDX-License-Identifier: Apache-2.0
// resource.Quantity: "100m", "128Mi", "1.5", "12e6". Exact decimal arithmetic in nano units (what Kubernetes keeps), in 128 bits:
// values beyond ±2^63-1 units are capped as Kubernetes caps them.
#pragma once
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace skerry::kube {

class Quantity {
 public:
  enum class Format : std::uint8_t { DecimalSI, BinarySI, DecimalExponent };
  Quantity() = default;
  static std::optional<Quantity> parse(std::string_view);  // nothing: malformed
  static Quantity units(std::int64_t value, Format format = Format::DecimalSI);
  static Quantity milli(std::int64_t value);

  std::int64_t value() const;        // whole units, rounded up (away from zero), capped
  std::int64_t milli_value() const;  // thousandths, rounded up, capped
  bool zero() const { return nano_ == 0; }
  bool negative() const { return nano_ < 0; }
  Quantity operator+(const Quantity&) const;
  Quantity operator-(const Quantity&) const;
  std::strong_ordering operator<=>(const Quantity& o) const { return nano_ <=> o.nano_; }
  bool operator==(const Quantity& o) const { return nano_ == o.nano_; }
  std::string str() const;  // canonical, as the API server writes it: "1500m" stays, "1000m" is "1", "1024Mi" is "1Gi"

 private:
  __int128 nano_ = 0;
  Format format_ = Format::DecimalSI;
};

inline constexpr std::string_view kQuantityError =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

}  // namespace skerry::kube
