// SPDX-License-Identifier: Apache-2.0
// Structured log: a constant event name and typed fields, one line of logfmt on standard error.
// error: someone must act (and any test that did not expect it fails); warn: handled; info: lifecycle; debug: off.
// A log leaves the machine: no bodies, no secrets. Thread-safe; a line is one write.
#pragma once
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/time.h"

namespace skerry {

enum class LogLevel : std::uint8_t { Debug, Info, Warn, Error };

struct LogField {
  std::string_view key;
  std::string value;
  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  LogField(std::string_view k, bool v) : key(k), value(v ? "true" : "false") {}
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  LogField(std::string_view k, T v) : key(k), value(std::to_string(v)) {}
  LogField(std::string_view k, double v);
  LogField(std::string_view k, Duration v) : key(k), value(to_human(v)) {}
  LogField(std::string_view k, const Error& v);
};

void log_line(LogLevel, std::string_view event, std::initializer_list<LogField> fields);
void set_log_level(LogLevel least);
bool log_enabled(LogLevel);
// Replaces standard error as the destination, for tests; an empty function restores it. Not thread-safe: set it first.
using LogSink = std::function<void(LogLevel, std::string_view line)>;
void set_log_sink(LogSink);

}  // namespace skerry

#define SKERRY_LOG(level, event, ...) \
  (::skerry::log_enabled(level) ? ::skerry::log_line(level, event, {__VA_ARGS__}) : (void)0)
#define LOG_DEBUG(event, ...) SKERRY_LOG(::skerry::LogLevel::Debug, event __VA_OPT__(, ) __VA_ARGS__)
#define LOG_INFO(event, ...) SKERRY_LOG(::skerry::LogLevel::Info, event __VA_OPT__(, ) __VA_ARGS__)
#define LOG_WARN(event, ...) SKERRY_LOG(::skerry::LogLevel::Warn, event __VA_OPT__(, ) __VA_ARGS__)
#define LOG_ERROR(event, ...) SKERRY_LOG(::skerry::LogLevel::Error, event __VA_OPT__(, ) __VA_ARGS__)
