// SPDX-License-Identifier: Apache-2.0
#include "agent/checkpoint.h"

#include <openssl/evp.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <format>
#include <memory>

#include "base/text.h"
#include "os/file.h"

namespace skerry::agent {
namespace {

constexpr std::size_t kKeyBytes = 32, kNonceBytes = 12, kTagBytes = 16;
constexpr char kSealVersion = 1;
constexpr const char* kCopy = ".good";

constexpr std::array<std::string_view, 2> kMigrations = {
    "CREATE TABLE pods (uid TEXT PRIMARY KEY, object TEXT NOT NULL, state TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE objects (kind TEXT, namespace TEXT, name TEXT, sealed INTEGER NOT NULL, bytes BLOB NOT NULL,"
    " PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID;"
    "CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE intents (id INTEGER PRIMARY KEY, body TEXT NOT NULL);",
};

std::string random_bytes(std::size_t n, Random& random) {
  std::string out;
  while (out.size() < n) {
    const std::uint64_t word = random.next();
    char bytes[sizeof word];
    std::memcpy(bytes, &word, sizeof word);
    out.append(bytes, std::min(sizeof word, n - out.size()));
  }
  return out;
}

std::string seal_name(std::string_view kind, std::string_view ns, std::string_view name) { return std::format("{}/{}/{}", kind, ns, name); }

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* c) const { EVP_CIPHER_CTX_free(c); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;
const unsigned char* bytes_of(std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }
unsigned char* bytes_of(std::string& s) { return reinterpret_cast<unsigned char*>(s.data()); }

}  // namespace

Result<NodeKey> NodeKey::open(const std::filesystem::path& path, Random& random) {
  NodeKey key;
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) {
    if ((info.st_mode & 077) != 0)
      return Fail({Errc::Denied, std::format("{} can be read by others (mode {:o}): it protects the node's secrets; chmod 600 it", path.string(), info.st_mode & 07777)});
    TRY(auto text, os::read_small_file(path, 4096));
    if (text.size() != kKeyBytes)
      return Fail({Errc::Corrupt, std::format("{} is not a node key ({} bytes instead of {}): remove it, and the node fetches its secrets again",
                                              path.string(), text.size(), kKeyBytes)});
    key.bytes_ = std::move(text);
    return key;
  }
  key.bytes_ = random_bytes(kKeyBytes, random);
  TRY_OK(os::write_file_atomically(path, key.bytes_, 0600));
  return key;
}

Result<std::string> NodeKey::seal(std::string_view name, std::string_view clear, Random& random) const {
  std::string out(1, kSealVersion);
  out += random_bytes(kNonceBytes, random);
  out.resize(1 + kNonceBytes + kTagBytes + clear.size());
  Cipher c(EVP_CIPHER_CTX_new());
  int n = 0;
  unsigned char* const base = bytes_of(out);
  if (!c || EVP_EncryptInit_ex(c.get(), EVP_aes_256_gcm(), nullptr, bytes_of(bytes_), base + 1) != 1 ||
      EVP_EncryptUpdate(c.get(), nullptr, &n, bytes_of(name), static_cast<int>(name.size())) != 1 ||
      EVP_EncryptUpdate(c.get(), base + 1 + kNonceBytes + kTagBytes, &n, bytes_of(clear), static_cast<int>(clear.size())) != 1 ||
      EVP_EncryptFinal_ex(c.get(), base + out.size(), &n) != 1 ||
      EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, base + 1 + kNonceBytes) != 1)
    return Fail({Errc::Internal, std::format("encrypting {} failed", name)});
  return out;
}

Result<std::string> NodeKey::unseal(std::string_view name, std::string_view sealed) const {
  const auto bad = [&] { return Fail({Errc::Corrupt, std::format("{} does not open with this node's key", name)}); };
  if (sealed.size() < 1 + kNonceBytes + kTagBytes || sealed[0] != kSealVersion) return bad();
  const std::string_view nonce = sealed.substr(1, kNonceBytes), body = sealed.substr(1 + kNonceBytes + kTagBytes);
  std::string tag(sealed.substr(1 + kNonceBytes, kTagBytes)), out(body.size(), '\0');
  Cipher c(EVP_CIPHER_CTX_new());
  int n = 0;
  if (!c || EVP_DecryptInit_ex(c.get(), EVP_aes_256_gcm(), nullptr, bytes_of(bytes_), bytes_of(nonce)) != 1 ||
      EVP_DecryptUpdate(c.get(), nullptr, &n, bytes_of(name), static_cast<int>(name.size())) != 1 ||
      EVP_DecryptUpdate(c.get(), bytes_of(out), &n, bytes_of(body), static_cast<int>(body.size())) != 1 ||
      EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) != 1 ||
      EVP_DecryptFinal_ex(c.get(), bytes_of(out) + out.size(), &n) != 1)
    return bad();
  return out;
}

std::int64_t Checkpoint::Loaded::number(std::string_view name, std::int64_t otherwise) const {
  for (const auto& [key, value] : numbers)
    if (key == name) return value;
  return otherwise;
}

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& folder, Random& random, sql::Database::Options options) {
  TRY_OK(os::make_folders(folder, 0700));
  TRY(auto key, NodeKey::open(folder / "node.key", random));
  std::string path = (folder / "agent.db").string();
  const std::string mark = std::format("INSERT INTO numbers VALUES ('{}',1) ON CONFLICT (name) DO UPDATE SET value = excluded.value", kOlder);
  TRY(auto opened, sql::Database::open_or_restore(path, path + kCopy, options, kMigrations, mark));
  Checkpoint out(std::move(key), random, std::move(path), std::move(options));
  TRY_OK(out.use(std::move(opened.database)));
  if (opened.restored) out.restored_ = std::move(opened.reason);
  out.emptied_ = opened.emptied;
  return out;
}

Result<> Checkpoint::use(sql::Database database) {
  TRY_OK(database.exec("PRAGMA secure_delete = ON"));  // what was removed is not to be found in free pages
  database_.emplace(std::move(database));
  return {};
}

// Once damaged, a database may take one write and spoil the next: it gets none.
Error Checkpoint::noticed(Error error) {
  if (error.code == Errc::Corrupt && damage_.empty()) damage_ = error.what;
  return error;
}

Result<> Checkpoint::copy() {
  if (!damage_.empty()) return Fail({Errc::Corrupt, damage_});
  auto done = database_->backup_to(path_ + kCopy);
  if (!done) return Fail(noticed(std::move(done).error().with("copying the node's checkpoint")));
  return {};
}

Result<> Checkpoint::remake(const std::vector<Change>& all) {
  if (damage_.empty()) return {};
  const auto failed = [](Error e) { return Fail(std::move(e).with("making the node's checkpoint anew")); };
  auto whole = sql::Database::open(":memory:", options_, kMigrations);
  if (!whole) return failed(std::move(whole).error());
  if (auto done = apply_all(*whole, all); !done) return failed(std::move(done).error());
  if (auto done = whole->backup_to(path_ + kCopy); !done) return failed(std::move(done).error());
  database_.reset();
  auto opened = sql::Database::restore(path_, path_ + kCopy, options_, kMigrations, "", damage_);
  if (!opened) return failed(std::move(opened).error());
  if (opened->emptied) return failed({Errc::Corrupt, std::format("the disk does not give back what was written to {}{}", path_, kCopy)});
  TRY_OK(use(std::move(opened->database)));
  damage_.clear();
  return {};
}

std::uint64_t Checkpoint::bytes() const {
  std::uint64_t out = 0;
  for (const char* suffix : {"", "-wal"}) {
    struct stat info {};
    if (::stat((path_ + suffix).c_str(), &info) == 0) out += static_cast<std::uint64_t>(info.st_size);
  }
  return out;
}

Result<Checkpoint::Loaded> Checkpoint::load() {
  Loaded out;
  {
    TRY(auto read, database_->prepare("SELECT uid, object, state FROM pods ORDER BY uid"));
    for (;;) {
      TRY(const bool more, read.step());
      if (!more) break;
      auto object = kube::Object::from_json(std::string(read.text(1)));
      if (!object || (*object)->uid() != read.text(0)) {
        out.lost.push_back(std::format("pod {}: {}", read.text(0), object ? "another uid inside" : object.error().what));
        continue;
      }
      out.pods.push_back({std::move(*object), std::string(read.text(2))});
    }
  }
  {
    TRY(auto read, database_->prepare("SELECT kind, namespace, name, sealed, bytes FROM objects"));
    for (;;) {
      TRY(const bool more, read.step());
      if (!more) break;
      const std::string name = seal_name(read.text(0), read.text(1), read.text(2));
      std::string json(read.blob(4));
      if (read.integer(3) != 0) {
        auto clear = key_.unseal(name, json);
        if (!clear) {
          out.lost.push_back(clear.error().what);
          continue;
        }
        json = std::move(*clear);
      }
      auto object = kube::Object::from_json(std::move(json));
      if (!object) {
        out.lost.push_back(std::format("{}: {}", name, object.error().what));
        continue;
      }
      out.objects.push_back(std::move(*object));
    }
  }
  {
    TRY(auto read, database_->prepare("SELECT id, body FROM intents ORDER BY id"));
    for (;;) {
      TRY(const bool more, read.step());
      if (!more) break;
      out.intents.emplace_back(static_cast<std::uint64_t>(read.integer(0)), std::string(read.text(1)));
    }
  }
  TRY(auto read, database_->prepare("SELECT name, value FROM numbers"));
  for (;;) {
    TRY(const bool more, read.step());
    if (!more) break;
    out.numbers.emplace_back(read.text(0), read.integer(1));
  }
  out.older = out.number(kOlder) != 0;
  return out;
}

Result<> Checkpoint::apply(sql::Database& database, const Change& change) {
  if (const auto* x = std::get_if<change::PutPod>(&change)) {
    TRY(auto put, database.prepare("INSERT INTO pods VALUES (?,?,?) ON CONFLICT (uid) DO UPDATE SET object = excluded.object, state = excluded.state"));
    return put.run(x->object->uid(), *x->object->json(), x->state);
  }
  if (const auto* x = std::get_if<change::PutPodState>(&change)) {
    TRY(auto put, database.prepare("UPDATE pods SET state = ?2 WHERE uid = ?1"));
    return put.run(x->uid, x->state);
  }
  if (const auto* x = std::get_if<change::RemovePod>(&change)) {
    TRY(auto remove, database.prepare("DELETE FROM pods WHERE uid = ?"));
    return remove.run(x->uid);
  }
  if (const auto* x = std::get_if<change::PutObject>(&change)) {
    const kube::Object& o = *x->object;
    TRY(auto put, database.prepare("INSERT INTO objects VALUES (?,?,?,?,?) ON CONFLICT (kind, namespace, name) DO UPDATE SET sealed = excluded.sealed, bytes = excluded.bytes"));
    if (o.kind() != "Secret") return put.run(o.kind(), o.namespace_(), o.name(), 0, sql::Blob{*o.json()});
    TRY(const auto sealed, key_.seal(seal_name(o.kind(), o.namespace_(), o.name()), *o.json(), *random_));
    return put.run(o.kind(), o.namespace_(), o.name(), 1, sql::Blob{sealed});
  }
  if (const auto* x = std::get_if<change::RemoveObject>(&change)) {
    TRY(auto remove, database.prepare("DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?"));
    return remove.run(x->kind, x->namespace_, x->name);
  }
  if (const auto* x = std::get_if<change::PutIntent>(&change)) {
    TRY(auto put, database.prepare("INSERT INTO intents VALUES (?,?) ON CONFLICT (id) DO UPDATE SET body = excluded.body"));
    return put.run(static_cast<std::int64_t>(x->id), x->json);
  }
  if (const auto* x = std::get_if<change::RemoveIntent>(&change)) {
    TRY(auto remove, database.prepare("DELETE FROM intents WHERE id = ?"));
    return remove.run(static_cast<std::int64_t>(x->id));
  }
  const auto& x = std::get<change::PutNumber>(change);
  TRY(auto put, database.prepare("INSERT INTO numbers VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"));
  return put.run(x.name, x.value);
}

Result<> Checkpoint::apply_all(sql::Database& database, const std::vector<Change>& changes) {
  return database.transaction([&]() -> Result<> {
    for (const Change& c : changes) TRY_OK(apply(database, c));
    return {};
  });
}

Result<> Checkpoint::write(const std::vector<Change>& changes) {
  if (!damage_.empty()) return Fail({Errc::Corrupt, damage_});
  if (changes.empty()) return {};
  auto done = apply_all(*database_, changes);
  if (!done) return Fail(noticed(std::move(done).error().with("writing the node's checkpoint")));
  return {};
}

}  // namespace skerry::agent
