// SPDX-License-Identifier: Apache-2.0
// Strong<Tag, T>: an id or a number that does not mix with others of the same representation.
#pragma once
#include <compare>
#include <functional>
#include <utility>

namespace skerry {
template <class Tag, class T>
class Strong {
 public:
  Strong() = default;
  constexpr explicit Strong(T v) : value_(std::move(v)) {}
  constexpr const T& value() const { return value_; }
  friend auto operator<=>(const Strong&, const Strong&) = default;

 private:
  T value_{};
};
}  // namespace skerry

template <class Tag, class T>
struct std::hash<skerry::Strong<Tag, T>> {
  std::size_t operator()(const skerry::Strong<Tag, T>& v) const { return std::hash<T>{}(v.value()); }
};
