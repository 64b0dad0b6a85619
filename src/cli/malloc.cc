// SPDX-License-Identifier: Apache-2.0
// How jemalloc, which `skerry` is linked to, serves daemons that make and free thousands of objects in a burst and then idle for
// days (docs/adr/0031). jemalloc reads this name at its start: jemalloc(3), TUNING; MALLOC_CONF in the environment overrides it.
//   narenas:1       a few threads, one of which does nearly all: living objects lie together, not in an arena each
//   dirty_decay_ms, muzzy_decay_ms   freed pages are the kernel's again within a second
//   background_thread  …and also when the process sleeps: one thread, which wakes only while there is something to give back
extern "C" {
extern const char* const malloc_conf;
const char* const malloc_conf = "narenas:1,dirty_decay_ms:500,muzzy_decay_ms:0,background_thread:true,max_background_threads:1";
}
