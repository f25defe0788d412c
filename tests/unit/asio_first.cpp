// holdfast: Asio was included before, without coroutines, as clang has it up to Asio 1.26; this must not compile, and the
// error says what to do.
// SPDX-License-Identifier: BSL-1.0
#define ASIO_DISABLE_CO_AWAIT
#include <asio.hpp>

#include <holdfast/asio.hpp>
