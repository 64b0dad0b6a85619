// SPDX-License-Identifier: Apache-2.0
#include "oci/transfer.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <format>
#include <map>
#include <optional>

#include "base/check.h"
#include "base/text.h"
#include "kube/json.h"
#include "oci/auth.h"
#include "oci/digest.h"
#include "os/file.h"

namespace skerry::oci {
namespace {

constexpr std::size_t kErrorBytesMax = 64 * 1024, kTokenBytesMax = 1024 * 1024, kHeaderBytesMax = 64 * 1024;
constexpr long kRedirectsMax = 5, kConnectTimeoutMs = 10'000;
constexpr int kTriesMax = 5;
constexpr long kSlowBytesPerSecond = 100;  // slower is a stall: three registries that trickle would keep all others from their turn
constexpr std::uint64_t kProgressBytes = 16 * 1024;  // a try that brought less counts as one that failed

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) || std::string_view("-_.~").contains(c)) out += c;
    else out += std::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

// What the registry says of a failure, in one line without control characters: it comes from outside and goes into logs.
std::string words_of(std::string_view body) {
  std::string text;
  if (const auto doc = kube::JsonDoc::parse(body)) {
    for (const kube::Json one : doc->root()["errors"].items())
      if (text.size() < 300) text += std::format("{}{}", text.empty() ? "" : "; ", one["message"].str(one["code"].str()));
    if (text.empty()) text = doc->root()["details"].str(doc->root()["error"].str());
  }
  text = text.substr(0, 300);
  std::ranges::replace_if(text, [](char c) { return static_cast<unsigned char>(c) < ' '; }, ' ');
  return text;
}

struct Incoming {
  std::map<std::string, std::string> headers{};  // of the last answer
  std::size_t header_bytes = 0;
  std::string body{};
  std::size_t body_max = 0;
  bool bodiless = false;  // of a HEAD
  std::function<bool(std::string_view)> sink{};  // instead of the body, for an answer that is a success; false: stop
  CURL* curl = nullptr;
};

// What a registry says, and no portal or proxy before it: that an image is not there, or not for us, is its word alone.
bool is_registry(const Incoming& in) {
  if (in.bodiless || in.headers.contains("docker-distribution-api-version") || in.headers.contains("www-authenticate")) return true;
  const auto doc = kube::JsonDoc::parse(in.body);
  return doc && doc->root()["errors"].is_array();
}

std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* to) {
  auto& in = *static_cast<Incoming*>(to);
  const std::string_view line(bytes, size);
  if (line.starts_with("HTTP/")) {  // another answer begins: after a redirect, or a 100
    in.headers.clear();
    in.header_bytes = 0;
  }
  if ((in.header_bytes += size) > kHeaderBytesMax) return 0;
  if (const auto colon = line.find(':'); colon != std::string_view::npos) {
    auto& value = in.headers[lower(line.substr(0, colon))];
    const auto more = trim(line.substr(colon + 1));
    value += value.empty() ? std::string(more) : ", " + std::string(more);
  }
  return size;
}

std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* to) {
  auto& in = *static_cast<Incoming*>(to);
  long status = 0;
  curl_easy_getinfo(in.curl, CURLINFO_RESPONSE_CODE, &status);
  if (in.sink && status >= 200 && status < 300) return in.sink({bytes, size}) ? size : 0;
  const std::size_t max = in.sink ? kErrorBytesMax : in.body_max;
  if (in.body.size() + size > max) return in.sink ? size : 0;
  in.body.append(bytes, size);
  return size;
}

}  // namespace

struct Transfer::State {
  const RegistryEndpoint& endpoint;
  std::string repository, action;
  Duration stall;
  OnBytes on_bytes;
  CURL* curl = nullptr;
  std::array<char, CURL_ERROR_SIZE> reason{};
  std::string authorization{};   // the header's value, or none
  std::size_t candidate = 0;     // which credentials are tried; after the last: none
  std::string host{};            // for sentences

  struct Ask {
    std::string method = "GET", url{};
    std::vector<std::string> headers{};
    std::optional<std::string> body{};
    std::string basic{};  // "user:password"
    std::optional<std::uint64_t> from{};
  };

  void prepare(const Ask& ask, Incoming& in, curl_slist*& list) {
    curl_easy_reset(curl);
    reason[0] = '\0';
    const auto set = [&](auto option, auto value) { CHECK(curl_easy_setopt(curl, option, value) == CURLE_OK); };
    set(CURLOPT_URL, ask.url.c_str());
    set(CURLOPT_ERRORBUFFER, reason.data());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_USERAGENT, "skerry/" SKERRY_VERSION);
    set(CURLOPT_FOLLOWLOCATION, ask.method == "GET" || ask.method == "HEAD" ? 1L : 0L);
    set(CURLOPT_MAXREDIRS, kRedirectsMax);
    // A registry on TLS never leads to a plain one.
    const char* protocols = endpoint.url.starts_with("http://") ? "http,https" : "https";
    set(CURLOPT_PROTOCOLS_STR, protocols);
    set(CURLOPT_REDIR_PROTOCOLS_STR, protocols);
    set(CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
    set(CURLOPT_LOW_SPEED_LIMIT, kSlowBytesPerSecond);
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::seconds>(stall).count())));
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    set(CURLOPT_HEADERFUNCTION, on_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(&in));
    set(CURLOPT_WRITEFUNCTION, on_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&in));
    set(CURLOPT_BUFFERSIZE, 256L * 1024);
    const auto blob = [&](CURLoption option, const std::string& text) {
      if (text.empty()) return;
      curl_blob b{const_cast<char*>(text.data()), text.size(), CURL_BLOB_COPY};
      set(option, &b);
    };
    blob(CURLOPT_CAINFO_BLOB, endpoint.ca_pem);  // beside the system's folder of authorities
    blob(CURLOPT_SSLCERT_BLOB, endpoint.certificate_pem);
    blob(CURLOPT_SSLKEY_BLOB, endpoint.key_pem);
    if (!endpoint.verify) {
      set(CURLOPT_SSL_VERIFYPEER, 0L);
      set(CURLOPT_SSL_VERIFYHOST, 0L);
    }
    in.bodiless = ask.method == "HEAD";
    if (in.bodiless) set(CURLOPT_NOBODY, 1L);
    else if (ask.method != "GET") set(CURLOPT_CUSTOMREQUEST, ask.method.c_str());
    if (ask.body) {
      set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(ask.body->size()));
      set(CURLOPT_POSTFIELDS, ask.body->data());
      list = curl_slist_append(list, "Expect:");
    }
    if (!ask.basic.empty()) {
      set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
      set(CURLOPT_USERPWD, ask.basic.c_str());
    }
    if (ask.from) set(CURLOPT_RANGE, std::format("{}-", *ask.from).c_str());
    for (const auto& header : ask.headers) list = curl_slist_append(list, header.c_str());
    if (list != nullptr) set(CURLOPT_HTTPHEADER, list);
    in.curl = curl;
  }

  Error broken(CURLcode code) const {
    const std::string_view why = reason[0] != '\0' ? reason.data() : curl_easy_strerror(code);
    switch (code) {
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_CACERT_BADFILE:
        return {Errc::Unavailable, std::format("{} cannot be trusted: {}; give its authority as tls.ca_file in the registries file", host, why)};
      case CURLE_UNSUPPORTED_PROTOCOL:
        return {Errc::Denied, std::format("{} leads to an address without TLS, which is not followed", host)};
      case CURLE_TOO_MANY_REDIRECTS:
        return {Errc::Invalid, std::format("{} leads in a circle", host)};
      case CURLE_OPERATION_TIMEDOUT:
        return {Errc::Timeout, std::format("{} does not answer: {}", host, why)};
      default:
        return {Errc::Unavailable, std::format("{} cannot be reached: {}", host, why)};
    }
  }

  // One exchange. A write that the sink refused is CURLE_WRITE_ERROR, which the caller knows the reason of.
  Result<long> exchange(const Ask& ask, Incoming& in, CURLcode* code_out = nullptr) {
    curl_slist* list = nullptr;
    prepare(ask, in, list);
    const CURLcode code = curl_easy_perform(curl);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_off_t went = 0;
    curl_easy_getinfo(curl, CURLINFO_SIZE_UPLOAD_T, &went);
    if (on_bytes && went > 0) on_bytes(static_cast<std::uint64_t>(went));
    curl_slist_free_all(list);
    if (code_out != nullptr) *code_out = code;
    if (code != CURLE_OK) return Fail(broken(code));
    return status;
  }

  const Credential* credential() const { return candidate < endpoint.credentials.size() ? &endpoint.credentials[candidate] : nullptr; }
  bool more() const { return candidate < endpoint.credentials.size(); }

  Result<> fetch_token(const Challenge& challenge) {
    const bool plain = endpoint.url.starts_with("http://");
    if (!challenge.realm.starts_with("https://") && !(plain && challenge.realm.starts_with("http://")))
      return Fail({Errc::Denied, std::format("{} asks for a token from an address without TLS, which gets no credentials", host)});
    const std::string scope = std::format("repository:{}:{}", repository, action);
    Ask ask;
    const Credential* who = credential();
    if (who != nullptr && !who->identity_token.empty()) {
      ask.method = "POST";
      ask.url = challenge.realm;
      ask.body = std::format("grant_type=refresh_token&client_id=skerry&service={}&scope={}&refresh_token={}", escaped(challenge.service), escaped(scope), escaped(who->identity_token));
    } else {
      ask.url = std::format("{}{}service={}&scope={}", challenge.realm, challenge.realm.contains('?') ? "&" : "?", escaped(challenge.service), escaped(scope));
      if (who != nullptr) ask.basic = who->username + ":" + who->password;
    }
    Incoming in{.body_max = kTokenBytesMax};
    TRY(const long status, exchange(ask, in));
    if (status == 401 || status == 403 || status == 400) return Fail({Errc::Unauthenticated, std::format("{}: {}", host, words_of(in.body))});
    if (status != 200) return Fail({Errc::Unavailable, std::format("the token service of {} answers {}", host, status)});
    const auto doc = kube::JsonDoc::parse(in.body);
    if (!doc) return Fail({Errc::Unavailable, std::format("the token service of {} answers with a page of something else: is a portal or a proxy before it?", host)});
    const std::string_view token = doc->root()["token"].str(doc->root()["access_token"].str());
    if (token.empty() || token.find_first_of("\r\n \t") != std::string_view::npos) return Fail({Errc::Invalid, std::format("the token service of {} gives no token", host)});
    authorization = "Bearer " + std::string(token);
    return {};
  }

  // After a 401: other proof of who we are, or none left.
  Result<> authenticate(const std::map<std::string, std::string>& headers, bool tried_these) {
    const auto header = headers.find("www-authenticate");
    TRY(const auto challenges, parse_challenges(header == headers.end() ? std::string_view() : std::string_view(header->second)));
    const auto by = [&](std::string_view scheme) { return std::ranges::find(challenges, scheme, &Challenge::scheme); };
    const auto refused = [&](std::string_view why) {
      return Fail({Errc::Denied, std::format("{} refuses access to {}{}{}; {}", host, repository, why.empty() ? "" : ": ", why,
                                             endpoint.credentials.empty() ? "give credentials (imagePullSecrets, the registries file, or --auth-file)"
                                                                          : "the credentials that were given do not open it")});
    };
    for (;; tried_these = true) {
      if (tried_these) {
        if (!more()) return refused("");
        ++candidate;
      }
      authorization.clear();
      const Credential* who = credential();
      if (const auto bearer = by("bearer"); bearer != challenges.end()) {
        auto token = fetch_token(*bearer);
        if (token) return {};
        if (token.error().code != Errc::Unauthenticated) return token;
        if (!more()) return refused(token.error().what);
        continue;
      }
      if (by("basic") == challenges.end()) return refused(challenges.empty() ? "it does not say how to log in" : "it wants a log-in that is not served");
      if (who == nullptr) return refused("");
      if (who->username.empty()) continue;
      authorization = "Basic " + to_base64(who->username + ":" + who->password);
      return {};
    }
  }

  // With the token dance. `in.sink` may have been fed when this fails.
  Result<long> ask_registry(Ask ask, Incoming& in, CURLcode* code = nullptr) {
    const auto headers = ask.headers;
    bool tried_these = false;
    for (;;) {
      ask.headers = headers;
      if (!authorization.empty()) ask.headers.push_back("Authorization: " + authorization);
      in.body.clear();
      TRY(const long status, exchange(ask, in, code));
      // Wherever the registry led to is not asked how to log in: the credentials are for the registry. It may lead there anew.
      long redirects = 0;
      curl_easy_getinfo(curl, CURLINFO_REDIRECT_COUNT, &redirects);
      if (redirects > 0 && (status == 401 || status == 403)) return Fail({Errc::Unavailable, std::format("{} leads to an address that refuses access ({})", host, status)});
      // A token may have ended meanwhile: asked for once more before the next credentials.
      const bool denied = status == 401 || (status == 403 && more());
      if (!denied || !is_registry(in)) return status;
      const bool had_token = authorization.starts_with("Bearer ");
      TRY_OK(authenticate(in.headers, tried_these || (!authorization.empty() && !had_token)));
      tried_these = true;
    }
  }

  Error failure(long status, const Incoming& in, std::string_view what) const {
    const std::string words = words_of(in.body);
    const std::string said = words.empty() ? "" : ": " + words;
    if ((status == 401 || status == 403 || status == 404) && !is_registry(in))
      return {Errc::Unavailable, std::format("{} answers {} for {}, and not as a registry does: is a portal or a proxy before it?", host, status, what)};
    if (status == 401 || status == 403) return {Errc::Denied, std::format("{} refuses access to {}{}", host, what, said)};
    if (status == 404) return {Errc::NotFound, std::format("{} does not have {}{}", host, what, said)};
    if (status == 429) return {Errc::Unavailable, std::format("{} asks for patience (429){}", host, said)};
    return {Errc::Unavailable, std::format("{} answers {} for {}{}", host, status, what, said)};
  }

  Result<Answer> whole(Ask ask) {
    Incoming in{.body_max = kManifestBytesMax};
    CURLcode code = CURLE_OK;
    const std::string what = ask.url.substr(std::min(ask.url.size(), endpoint.url.size()));
    auto status = ask_registry(std::move(ask), in, &code);
    if (!status && code == CURLE_WRITE_ERROR) return Fail({Errc::Exhausted, std::format("{} answers with more than {} bytes for {}", host, kManifestBytesMax, what)});
    if (!status) return Fail(std::move(status).error());
    if (*status < 200 || *status > 299) return Fail(failure(*status, in, what));
    return Answer{.status = *status, .body = std::move(in.body), .media_type = in.headers["content-type"], .digest = in.headers["docker-content-digest"], .location = in.headers["location"]};
  }
};

Transfer::Transfer(const RegistryEndpoint& endpoint, std::string repository, std::string action, Duration stall, OnBytes on_bytes)
    : state_(new State{.endpoint = endpoint, .repository = std::move(repository), .action = std::move(action), .stall = stall, .on_bytes = std::move(on_bytes)}) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  CHECK(ready == CURLE_OK);
  state_->curl = curl_easy_init();
  CHECK(state_->curl != nullptr);
  const std::string_view url = endpoint.url;
  const auto scheme = url.find("://");
  const auto rest = scheme == std::string_view::npos ? url : url.substr(scheme + 3);
  state_->host = rest.substr(0, rest.find('/'));
}
Transfer::~Transfer() { curl_easy_cleanup(state_->curl); }

Result<Transfer::Answer> Transfer::get(const std::string& path, std::string_view accept) {
  TRY(auto answer, state_->whole({.url = state_->endpoint.url + path, .headers = {std::format("Accept: {}", accept)}}));
  if (const auto doc = kube::JsonDoc::parse(answer.body); !doc || !doc->root().is_object())
    return Fail({Errc::Unavailable, std::format("{} answers with a page of something else than a registry: is a portal or a proxy before it?", state_->host)});
  return answer;
}
Result<Transfer::Answer> Transfer::head(const std::string& path, std::string_view accept) {
  State::Ask ask{.method = "HEAD", .url = state_->endpoint.url + path};
  if (!accept.empty()) ask.headers.push_back(std::format("Accept: {}", accept));
  return state_->whole(std::move(ask));
}
Result<Transfer::Answer> Transfer::send(std::string_view method, const std::string& where, std::string_view media_type, std::string_view body) {
  const bool absolute = where.starts_with("http://") || where.starts_with("https://");
  std::vector<std::string> headers;
  if (!media_type.empty()) headers.push_back(std::format("Content-Type: {}", media_type));
  return state_->whole({.method = std::string(method), .url = absolute ? where : state_->endpoint.url + where, .headers = std::move(headers), .body = std::string(body)});
}

Result<> Transfer::download(const std::string& path, const Descriptor& blob, const std::filesystem::path& to) {
  TRY(const auto file, os::open_file(to, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  Digester digester;
  std::uint64_t have = 0;
  // What an earlier try left counts as far as it goes.
  std::array<char, 64 * 1024> buffer;
  for (ssize_t n = 0; (n = ::pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(have))) > 0;) {
    digester.add({buffer.data(), static_cast<std::size_t>(n)});
    have += static_cast<std::uint64_t>(n);
  }
  const std::uint64_t found = have;
  const auto restart = [&] {
    digester.reset();
    have = 0;
    return ::ftruncate(file.get(), 0) == 0;
  };
  if (have > blob.size && !restart()) return Fail(errno_error(errno, std::format("truncate {}", to.string())));
  std::optional<Error> stopped;
  int tries = 0;
  while (have < blob.size) {
    const std::uint64_t before = have;
    Incoming in;
    bool first = true;
    in.sink = [&](std::string_view bytes) {
      long status = 0;
      curl_easy_getinfo(in.curl, CURLINFO_RESPONSE_CODE, &status);
      if (std::exchange(first, false) && have > 0) {
        const auto range = in.headers.find("content-range");
        const bool goes_on = status == 206 && range != in.headers.end() && range->second.starts_with(std::format("bytes {}-", have));
        if (!goes_on && (status != 200 || !restart())) {
          stopped = Error{Errc::Unavailable, std::format("{} answers another part of {} than it was asked for", state_->host, blob.digest)};
          return false;
        }
      }
      if (have + bytes.size() > blob.size) {
        stopped = Error{Errc::Corrupt, std::format("{} sends more bytes for {} than its manifest says", state_->host, blob.digest)};
        return false;
      }
      for (std::string_view left = bytes; !left.empty();) {
        const ssize_t n = ::pwrite(file.get(), left.data(), left.size(), static_cast<off_t>(have));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
          stopped = errno_error(errno, std::format("write {}", to.filename().string()));
          return false;
        }
        digester.add(left.substr(0, static_cast<std::size_t>(n)));
        have += static_cast<std::uint64_t>(n);
        left.remove_prefix(static_cast<std::size_t>(n));
      }
      if (state_->on_bytes) state_->on_bytes(bytes.size());
      return true;
    };
    State::Ask ask{.url = state_->endpoint.url + path};
    if (have > 0) ask.from = have;
    auto status = state_->ask_registry(std::move(ask), in);
    if (stopped) return Fail(*stopped);
    if (status && *status == 416) {
      if (!restart()) return Fail(errno_error(errno, std::format("truncate {}", to.string())));
      status = Fail(Error{Errc::Unavailable, std::format("{} does not have the rest of {}", state_->host, blob.digest)});
    } else if (status && (*status < 200 || *status > 299)) {
      return Fail(state_->failure(*status, in, blob.digest));
    }
    if (have == blob.size) break;
    if (status) status = Fail(Error{Errc::Unavailable, std::format("{} ended the download of {} early", state_->host, blob.digest)});
    if (status.error().code != Errc::Unavailable && status.error().code != Errc::Timeout) return Fail(std::move(status).error());
    tries = have >= before + kProgressBytes ? 1 : tries + 1;
    if (tries >= kTriesMax) return Fail(std::move(status).error());
    ::usleep(static_cast<useconds_t>(200'000 << tries));
  }
  if (digester.finish() != blob.digest) {
    ::unlink(to.c_str());
    if (found > 0) return download(path, blob, to);  // what was left may be it: a power cut spoils what nobody synced
    return Fail({Errc::Corrupt, std::format("what {} sent is not {}: its bytes have another digest", state_->host, blob.digest)});
  }
  return {};
}

}  // namespace skerry::oci
