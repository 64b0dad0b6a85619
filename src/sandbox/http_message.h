// SPDX-License-Identifier: Apache-2.0
// One HTTP request and its response as guests see them, and the memory they live in. Nothing here allocates once its
// buffers have grown to what the traffic needs: everything is reset, not freed, between requests.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace skerry::sandbox {

// Growable bytes without initialisation. Capacity only grows, until release().
class Buffer {
 public:
  char* data() { return data_.get(); }
  const char* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {data_.get(), size_}; }
  void clear() { size_ = 0; }
  void reserve(std::size_t n) {
    if (n > capacity_) grow(n);
  }
  void append(const void* from, std::size_t n) {
    reserve(size_ + n);
    if (n > 0) std::memcpy(data_.get() + size_, from, n);
    size_ += n;
  }
  void append(std::string_view text) { append(text.data(), text.size()); }
  void push(char c) { append(&c, 1); }
  // Room for n more bytes at the end; commit() says how many were used.
  char* room(std::size_t n) {
    reserve(size_ + n);
    return data_.get() + size_;
  }
  void commit(std::size_t n) { size_ += n; }
  void erase_front(std::size_t n) {
    std::memmove(data_.get(), data_.get() + n, size_ - n);
    size_ -= n;
  }
  void release() {
    data_.reset();
    size_ = capacity_ = 0;
  }

 private:
  void grow(std::size_t n);
  std::unique_ptr<char[]> data_;
  std::size_t size_ = 0, capacity_ = 0;
};

// Bytes with stable addresses until reset().
class Arena {
 public:
  std::string_view copy(std::string_view text);
  void reset();

 private:
  char* take(std::size_t n);
  struct Chunk {
    std::unique_ptr<char[]> bytes;
    std::size_t size;
  };
  std::vector<Chunk> chunks_;
  std::size_t chunk_ = 0, used_ = 0;
};

struct Field {
  std::string_view name, value;
};

bool equal_ignoring_case(std::string_view a, std::string_view b);
bool is_token(std::string_view);        // a header's name or a method
bool is_field_value(std::string_view);  // no CR, LF, NUL

// Header fields in order, names compared without case. set and add copy both into the arena.
class HeaderList {
 public:
  static constexpr std::size_t kFieldsMax = 1000;
  const std::vector<Field>& fields() const { return fields_; }
  bool empty() const { return fields_.empty(); }
  void clear() { fields_.clear(); }
  void append_view(std::string_view name, std::string_view value) { fields_.push_back({name, value}); }
  // The first value, or null.
  const std::string_view* find(std::string_view name) const;
  void add(Arena&, std::string_view name, std::string_view value);
  void set(Arena&, std::string_view name, std::string_view value);  // replaces all of that name
  void remove(std::string_view name);

 private:
  std::vector<Field> fields_;
};

struct Request {
  std::string_view method, uri;        // uri in origin form: path and query
  std::string_view version;            // "HTTP/1.1"
  HeaderList headers, trailers;
  std::string_view body;               // whole
  std::string_view source_address;     // "1.2.3.4:5678", "[::1]:5678"
  std::string_view host;               // of the Host header, or empty
  bool head_only = false;              // method HEAD
};

class Response;
// Where a response that outgrows its buffer goes while it is still being written.
class ResponseStream {
 public:
  // Sends the head (once) and what the body buffer holds, and empties the buffer. False: the client is gone or too slow.
  virtual bool flush(Response&) = 0;

 protected:
  ~ResponseStream() = default;
};

class Response {
 public:
  int status = 200;
  HeaderList headers, trailers;
  Buffer body;
  bool committed = false;       // the head has left: status and headers cannot change any more
  bool abort = false;           // cut the connection instead of finishing
  std::uint64_t body_bytes = 0; // in all, streamed ones included
  std::uint64_t body_bytes_max = 0;
  ResponseStream* stream = nullptr;  // null: keep everything in the buffer

  static constexpr std::size_t kStreamBytes = 256u << 10;  // what is buffered before the head leaves

  enum class Written : std::uint8_t { Ok, TooLarge, ClientGone };
  Written write(const void* data, std::size_t n);
  void clear();
  // Replaces everything by a plain text answer of the host. Only while not committed.
  void plain(int status_code, std::string_view text);
};

std::string_view reason_phrase(int status);
// A response of this status has no body and no Content-Length.
inline bool is_bodiless(int status) { return status == 204 || status == 304 || status < 200; }

// Decimal digits of n at the end of `out`.
void append_number(Buffer& out, std::uint64_t n);
void append_hex(Buffer& out, std::uint64_t n);

}  // namespace skerry::sandbox
