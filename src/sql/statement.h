// SPDX-License-Identifier: Apache-2.0
// One prepared statement: bind, step until it answers false, reset. It must not outlive its Database.
//   TRY(auto put, db.prepare("INSERT INTO t VALUES (?, ?)"));
//   TRY_OK(put.run(name, Blob{bytes}));
#pragma once
#include <concepts>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/error.h"

struct sqlite3_stmt;

namespace skerry::sql {

struct Blob {
  std::string_view bytes;
};
struct Null {};

class Statement {
 public:
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  // Parameters are numbered from 1. Text and blobs are copied. A bad index or a full memory is kept and returned by step().
  Statement& bind(int index, std::string_view text);
  Statement& bind(int index, Blob blob);
  Statement& bind(int index, Null);
  Statement& bind(int index, std::int64_t value);
  template <std::integral T>
  Statement& bind(int index, T value) { return bind(index, static_cast<std::int64_t>(value)); }
  Statement& bind(int index, const char* text) { return bind(index, std::string_view(text)); }

  // True: a row is there, to be read by the column functions until the next call. False: the end. After an error or the
  // end the statement is reset by itself; bindings stay.
  Result<bool> step();
  void reset();

  // Binds all, steps to the end, resets.
  template <class... Args>
  Result<> run(const Args&... args) {
    bind_all(args...);
    return finish();
  }
  // Binds all, without stepping.
  template <class... Args>
  Statement& bind_all(const Args&... args) {
    reset();
    int index = 0;
    (bind(++index, args), ...);
    return *this;
  }

  // Columns are numbered from 0. Views live until the next step, reset or bind.
  std::int64_t integer(int column) const;
  std::string_view text(int column) const;
  std::string_view blob(int column) const;
  bool is_null(int column) const;

 private:
  Result<> finish();
  struct Finalize {
    void operator()(sqlite3_stmt*) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bind_error_ = 0;
};

}  // namespace skerry::sql
