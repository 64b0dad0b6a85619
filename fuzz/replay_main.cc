// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over its corpus and over changed copies of it, the same ones each time: what libFuzzer found stays
// found in every test run, without clang. An input that ends the process is kept in the current
// folder as NAME_fuzz.input.
//
//   x_fuzz CORPUS [FILE…]      a single FILE is replayed as it is
#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "fuzz/fuzz.h"

namespace {

std::string current;  // the input that runs now
std::string dump_path;

// Only what a signal handler may call.
void on_death(int signal) {
  const int fd = open(dump_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  [[maybe_unused]] auto written = write(fd, current.data(), current.size());
  constexpr char text[] = "this input ended the target: ";
  written = write(STDERR_FILENO, text, sizeof text - 1);
  written = write(STDERR_FILENO, dump_path.data(), dump_path.size());
  written = write(STDERR_FILENO, "\n", 1);
  ::signal(signal, SIG_DFL);
  raise(signal);
}

void run(std::string input) {
  current = std::move(input);
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(current.data()), current.size());
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string changed(std::string input, const std::vector<std::string>& corpus, std::mt19937& random) {
  const auto below = [&random](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  for (std::size_t edits = 1 + below(4); edits-- > 0;) {
    const std::size_t at = below(input.size() + 1);
    switch (below(6)) {
      case 0:
        if (at < input.size()) input[at] = static_cast<char>(random());
        break;
      case 1:
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
        break;
      case 2:
        input.erase(at, 1 + below(8));
        break;
      case 3:
        input.insert(at, input.substr(at, below(32)));
        break;
      case 4: {
        const std::string& other = corpus[below(corpus.size())];
        input = input.substr(0, at) + other.substr(below(other.size() + 1));
        break;
      }
      default:
        input.insert(at, 1 + below(3), static_cast<char>(below(2) ? 0xff : random()));
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CORPUS [FILE...]\n", argv[0]);
    return 2;
  }
  dump_path = std::filesystem::path(argv[0]).filename().string() + ".input";
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, on_death);
  for (int i = 2; i < argc; i++) run(read(argv[i]));
  if (argc > 2) return 0;

  std::vector<std::string> corpus;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) corpus.push_back(read(entry.path()));
  if (corpus.empty()) {
    std::fprintf(stderr, "%s is empty: a target needs seeds\n", argv[1]);
    return 2;
  }
  std::sort(corpus.begin(), corpus.end());  // the same order on every file system
  run("");
  for (const auto& input : corpus) run(input);
  std::mt19937 random(20261123);
  constexpr std::size_t kChanged = 4000;
  for (std::size_t i = 0; i < kChanged; i++) run(changed(corpus[i % corpus.size()], corpus, random));
  std::fprintf(stderr, "%zu seeds and %zu changed ones: nothing broke\n", corpus.size(), kChanged);
  return 0;
}
