// SPDX-License-Identifier: Apache-2.0
#include "sql/statement.h"

#include <sqlite3.h>

#include "sql/database.h"

namespace skerry::sql {

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Statement& Statement::bind(int index, std::string_view text) {
  const int code = sqlite3_bind_text64(statement_.get(), index, text.data() ? text.data() : "", text.size(), SQLITE_TRANSIENT,
                                       SQLITE_UTF8);
  if (code != SQLITE_OK) bind_error_ = code;
  return *this;
}
Statement& Statement::bind(int index, Blob blob) {
  const int code = sqlite3_bind_blob64(statement_.get(), index, blob.bytes.data() ? blob.bytes.data() : "", blob.bytes.size(),
                                       SQLITE_TRANSIENT);
  if (code != SQLITE_OK) bind_error_ = code;
  return *this;
}
Statement& Statement::bind(int index, Null) {
  if (const int code = sqlite3_bind_null(statement_.get(), index); code != SQLITE_OK) bind_error_ = code;
  return *this;
}
Statement& Statement::bind(int index, std::int64_t value) {
  if (const int code = sqlite3_bind_int64(statement_.get(), index, value); code != SQLITE_OK) bind_error_ = code;
  return *this;
}

Result<bool> Statement::step() {
  sqlite3* db = sqlite3_db_handle(statement_.get());
  const auto fail = [&](int code) -> Result<bool> {
    Error error = sqlite_error(code, sqlite3_errmsg(db), sqlite3_sql(statement_.get()));
    reset();
    return Fail(std::move(error));
  };
  if (bind_error_ != 0) return fail(bind_error_);
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) return fail(sqlite3_extended_errcode(db));
  reset();
  return false;
}

void Statement::reset() {
  sqlite3_reset(statement_.get());
  bind_error_ = 0;
}

Result<> Statement::finish() {
  for (;;) {
    TRY(const bool row, step());
    if (!row) return {};
  }
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
std::string_view Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  return data ? std::string_view(data, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column)))
              : std::string_view();
}
std::string_view Statement::blob(int column) const {
  const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
  return data ? std::string_view(data, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column)))
              : std::string_view();
}
bool Statement::is_null(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }

}  // namespace skerry::sql
