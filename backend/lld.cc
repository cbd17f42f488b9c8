// LLD and the options of LLVM have no C interface: this is the one C++ file,
// and it only passes on.
#include "backend/lld.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "lld/Common/Driver.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/CrashRecoveryContext.h"
#include "llvm/Support/raw_ostream.h"

LLD_HAS_DRIVER(elf)

extern "C" bool lld_keep_flag(const char *name) {
  auto &options = llvm::cl::getRegisteredOptions();
  auto found = options.find(name);
  if (found == options.end()) return false;
  static_cast<llvm::cl::opt<bool> *>(found->second)->setInitialValue(true);
  return true;
}

extern "C" lld_result_t lld_run(int argc, const char *const *argv) {
  // Without recovery enabled the linker's fatal errors leave by _exit(). Its
  // signal handlers are in place only while the linker runs.
  llvm::CrashRecoveryContext::Enable();
  std::string text;
  llvm::raw_string_ostream stream(text);
  lld::Result result =
      lld::lldMain(llvm::ArrayRef<const char *>(argv, argc), stream, stream,
                   {{lld::Gnu, &lld::elf::link}});
  stream.flush();
  llvm::CrashRecoveryContext::Disable();

  lld_result_t out = {result.retCode, result.canRunAgain, nullptr};
  out.text = static_cast<char *>(std::malloc(text.size() + 1));
  if (out.text != nullptr) std::memcpy(out.text, text.c_str(), text.size() + 1);
  return out;
}
