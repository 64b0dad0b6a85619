// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <format>

namespace skerry {
namespace {

std::atomic<LogLevel> least_level{LogLevel::Info};
LogSink log_sink;

std::string_view name_of(LogLevel level) {
  switch (level) {
    case LogLevel::Debug: return "debug";
    case LogLevel::Info: return "info";
    case LogLevel::Warn: return "warn";
    case LogLevel::Error: return "error";
  }
  return "error";
}

void append_value(std::string& line, std::string_view value) {
  const bool plain = !value.empty() && value.find_first_of(" \"=\\\n\r\t") == std::string_view::npos &&
                     std::ranges::none_of(value, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (plain) {
    line += value;
    return;
  }
  line += '"';
  for (const char c : value) {
    if (c == '"' || c == '\\') (line += '\\') += c;
    else if (c == '\n') line += "\\n";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) line += std::format("\\x{:02x}", static_cast<unsigned char>(c));
    else line += c;
  }
  line += '"';
}

}  // namespace

LogField::LogField(std::string_view k, double v) : key(k), value(std::format("{:.6g}", v)) {}
LogField::LogField(std::string_view k, const Error& v) : key(k), value(std::format("{}: {}", to_string(v.code), v.what)) {}

void set_log_level(LogLevel least) { least_level.store(least, std::memory_order_relaxed); }
bool log_enabled(LogLevel level) { return level >= least_level.load(std::memory_order_relaxed); }
void set_log_sink(LogSink sink) { log_sink = std::move(sink); }

void log_line(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  std::string line = std::format("{} {} {}", to_rfc3339_micro(SystemClock().now()), name_of(level), event);
  for (const auto& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    append_value(line, field.value);
  }
  if (log_sink) {
    log_sink(level, line);
    return;
  }
  line += '\n';
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace skerry
