// SPDX-License-Identifier: Apache-2.0
#include "kube/quantity.h"

#include <array>
#include <limits>

namespace skerry::kube {
namespace {

using Wide = __int128;
constexpr Wide kNano = 1'000'000'000;
constexpr Wide kMaxNano = static_cast<Wide>(std::numeric_limits<std::int64_t>::max()) * kNano;

struct Suffix {
  int base2 = 0, base10 = 0;
  Quantity::Format format = Quantity::Format::DecimalSI;
};

std::optional<Suffix> parse_suffix(std::string_view s) {
  using F = Quantity::Format;
  if (s.empty()) return Suffix{};
  if (s.size() == 1) {
    switch (s[0]) {
      case 'n': return Suffix{0, -9, F::DecimalSI};
      case 'u': return Suffix{0, -6, F::DecimalSI};
      case 'm': return Suffix{0, -3, F::DecimalSI};
      case 'k': return Suffix{0, 3, F::DecimalSI};
      case 'M': return Suffix{0, 6, F::DecimalSI};
      case 'G': return Suffix{0, 9, F::DecimalSI};
      case 'T': return Suffix{0, 12, F::DecimalSI};
      case 'P': return Suffix{0, 15, F::DecimalSI};
      case 'E': return Suffix{0, 18, F::DecimalSI};
      default: return std::nullopt;
    }
  }
  if (s.size() == 2 && s[1] == 'i') {
    constexpr std::string_view kLetters = "KMGTPE";
    const auto at = kLetters.find(s[0]);
    if (at == std::string_view::npos) return std::nullopt;
    return Suffix{static_cast<int>(at + 1) * 10, 0, F::BinarySI};
  }
  if (s[0] != 'e' && s[0] != 'E') return std::nullopt;
  s.remove_prefix(1);
  bool negative = false;
  if (s[0] == '+' || s[0] == '-') {
    negative = s[0] == '-';
    s.remove_prefix(1);
  }
  if (s.empty()) return std::nullopt;
  int exponent = 0;
  for (const char c : s) {
    if (c < '0' || c > '9') return std::nullopt;
    if (exponent < 1000) exponent = exponent * 10 + (c - '0');
  }
  return Suffix{0, negative ? -exponent : exponent, F::DecimalExponent};
}

std::int64_t capped(Wide v) {
  constexpr Wide kMax = std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(v > kMax ? kMax : v < -kMax ? -kMax : v);
}
Wide divide_away_from_zero(Wide v, Wide by) { return v / by + (v % by == 0 ? 0 : v < 0 ? -1 : 1); }

std::string digits(Wide v) {
  if (v == 0) return "0";
  std::string out;
  const bool negative = v < 0;
  for (Wide u = negative ? -v : v; u > 0; u /= 10) out.insert(out.begin(), static_cast<char>('0' + static_cast<int>(u % 10)));
  return negative ? "-" + out : out;
}

}  // namespace

std::optional<Quantity> Quantity::parse(std::string_view text) {
  if (text.empty() || text.size() > 128) return std::nullopt;
  std::string_view rest = text;
  bool negative = false;
  if (rest[0] == '+' || rest[0] == '-') {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  // Digits before and after the point; at least one digit.
  std::size_t i = 0;
  while (i < rest.size() && rest[i] >= '0' && rest[i] <= '9') ++i;
  const std::string_view whole = rest.substr(0, i);
  std::string_view fraction;
  if (i < rest.size() && rest[i] == '.') {
    const std::size_t from = ++i;
    while (i < rest.size() && rest[i] >= '0' && rest[i] <= '9') ++i;
    fraction = rest.substr(from, i - from);
  }
  if (whole.empty() && fraction.empty()) return std::nullopt;
  const auto suffix = parse_suffix(rest.substr(i));
  if (!suffix) return std::nullopt;

  // mantissa × 10^scale: every digit up to what 128 bits hold; what is cut is below a nano or beyond the cap.
  Wide mantissa = 0;
  int scale = 0;
  bool cut = false;
  const auto take = [&](char c, bool after_point) {
    if (mantissa > kMaxNano * 1000) {
      if (!after_point) ++scale;
      cut = cut || c != '0';
      return;
    }
    mantissa = mantissa * 10 + (c - '0');
    if (after_point) --scale;
  };
  for (const char c : whole) take(c, false);
  for (const char c : fraction) take(c, true);
  Quantity q;
  q.format_ = suffix->format;
  if (mantissa == 0) return q;

  int exponent = scale + suffix->base10 + 9;  // to nano
  // Binary suffixes multiply by at most 2^60: 128 bits hold a mantissa below 2^67, so larger ones lose digits first.
  for (int b = 0; b < suffix->base2; b += 10) {
    while (mantissa > (static_cast<Wide>(1) << 110)) {
      cut = cut || mantissa % 10 != 0;
      mantissa /= 10;
      ++exponent;
    }
    mantissa <<= 10;
  }
  for (; exponent > 0 && mantissa <= kMaxNano; --exponent) mantissa *= 10;
  if (exponent > 0) mantissa = kMaxNano;
  for (; exponent < 0 && mantissa > 0; ++exponent) {
    cut = cut || mantissa % 10 != 0;
    mantissa /= 10;
  }
  if (cut) ++mantissa;  // rounded up, away from zero
  if (mantissa > kMaxNano) mantissa = kMaxNano;
  q.nano_ = negative ? -mantissa : mantissa;
  return q;
}

Quantity Quantity::units(std::int64_t value, Format format) {
  Quantity q;
  q.nano_ = static_cast<Wide>(value) * kNano;
  q.format_ = format;
  return q;
}
Quantity Quantity::milli(std::int64_t value) {
  Quantity q;
  q.nano_ = static_cast<Wide>(value) * 1'000'000;
  return q;
}
std::int64_t Quantity::value() const { return capped(divide_away_from_zero(nano_, kNano)); }
std::int64_t Quantity::milli_value() const { return capped(divide_away_from_zero(nano_, 1'000'000)); }

Quantity Quantity::operator+(const Quantity& o) const {
  Quantity q = *this;
  if (zero()) q.format_ = o.format_;
  q.nano_ += o.nano_;
  if (q.nano_ > kMaxNano) q.nano_ = kMaxNano;
  if (q.nano_ < -kMaxNano) q.nano_ = -kMaxNano;
  return q;
}
Quantity Quantity::operator-(const Quantity& o) const {
  Quantity negated = o;
  negated.nano_ = -negated.nano_;
  return *this + negated;
}

std::string Quantity::str() const {
  if (nano_ == 0) return "0";
  Format format = format_;
  const Wide magnitude = nano_ < 0 ? -nano_ : nano_;
  // Kubernetes writes binary suffixes only for whole numbers from 1024.
  if (format == Format::BinarySI && (magnitude < 1024 * kNano || magnitude % kNano != 0)) format = Format::DecimalSI;
  if (format == Format::BinarySI) {
    Wide v = nano_ / kNano;
    std::size_t steps = 0;
    while (steps < 6 && v % 1024 == 0) {
      v /= 1024;
      ++steps;
    }
    constexpr std::array<std::string_view, 7> kBinary{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    return digits(v) + std::string(kBinary[steps]);
  }
  Wide v = nano_;
  int exponent = -9;
  while (exponent < 18 && v % 1000 == 0) {
    v /= 1000;
    exponent += 3;
  }
  if (format == Format::DecimalExponent) return digits(v) + (exponent == 0 ? "" : "e" + std::to_string(exponent));
  constexpr std::array<std::string_view, 10> kDecimal{"n", "u", "m", "", "k", "M", "G", "T", "P", "E"};
  return digits(v) + std::string(kDecimal[static_cast<std::size_t>(exponent / 3 + 3)]);
}

}  // namespace skerry::kube
