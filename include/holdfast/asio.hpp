// holdfast: the one file that includes Asio, standalone or Boost's, and knows what differs between versions.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_ASIO_HPP
#define HOLDFAST_ASIO_HPP

#include <holdfast/version.hpp>

// What was included without coroutines stays so: the macros below would only hide it from the check after them.
#if (defined(ASIO_DETAIL_CONFIG_HPP) && !defined(HOLDFAST_USE_BOOST_ASIO) && !defined(ASIO_HAS_CO_AWAIT)) ||           \
    (defined(BOOST_ASIO_DETAIL_CONFIG_HPP) && defined(HOLDFAST_USE_BOOST_ASIO) && !defined(BOOST_ASIO_HAS_CO_AWAIT))
#error "Asio was included before holdfast without coroutine support: include a holdfast header first"
#endif

// Asio before 1.26 looks for clang's coroutines in <experimental/coroutine> only. With libstdc++ they are in
// <coroutine>, and these macros say so. They must be set before Asio is first seen: include this header (or
// any other of holdfast's) before Asio's own.
#if defined(__clang__) && !defined(_LIBCPP_VERSION) && __has_include(<coroutine>)
#if defined(HOLDFAST_USE_BOOST_ASIO)
#ifndef BOOST_ASIO_HAS_CO_AWAIT
#define BOOST_ASIO_HAS_CO_AWAIT 1
#endif
#ifndef BOOST_ASIO_HAS_STD_COROUTINE
#define BOOST_ASIO_HAS_STD_COROUTINE 1
#endif
#else
#ifndef ASIO_HAS_CO_AWAIT
#define ASIO_HAS_CO_AWAIT 1
#endif
#ifndef ASIO_HAS_STD_COROUTINE
#define ASIO_HAS_STD_COROUTINE 1
#endif
#endif
#endif

#if defined(HOLDFAST_USE_BOOST_ASIO)
#include <boost/asio.hpp>
#if BOOST_ASIO_VERSION < 102201
#error "holdfast needs Boost 1.79 (Asio 1.22.1) or newer"
#endif
#if !defined(BOOST_ASIO_HAS_CO_AWAIT) && __cplusplus >= 202002L
#error "Asio was included before holdfast without coroutine support: include a holdfast header first"
#endif
#else
#if !defined(ASIO_STANDALONE)
#define ASIO_STANDALONE 1
#endif
#include <asio.hpp>
#if ASIO_VERSION < 102201
#error "holdfast needs Asio 1.22.1 or newer"
#endif
#if !defined(ASIO_HAS_CO_AWAIT) && __cplusplus >= 202002L
#error "Asio was included before holdfast without coroutine support: include a holdfast header first"
#endif
#endif

// Asio 1.27 and newer: a handler can have an immediate executor, for operations that complete at once. Where an operation
// says that it completes "never inside this call", handlers with such an executor are the exception.
#if defined(HOLDFAST_USE_BOOST_ASIO)
#if BOOST_ASIO_VERSION >= 102700
#define HOLDFAST_HAS_IMMEDIATE_EXECUTORS 1
#endif
#elif ASIO_VERSION >= 102700
#define HOLDFAST_HAS_IMMEDIATE_EXECUTORS 1
#endif

#include <holdfast/error.hpp>
#include <holdfast/websocket_error.hpp>

#include <type_traits>

#if defined(HOLDFAST_USE_BOOST_ASIO)
template <>
struct boost::system::is_error_code_enum<holdfast::errc> : std::true_type {};
template <>
struct boost::system::is_error_code_enum<holdfast::websocket_errc> : std::true_type {};
#endif

namespace holdfast {

#if defined(HOLDFAST_USE_BOOST_ASIO)
/// Asio's namespace: `boost::asio` here, since HOLDFAST_USE_BOOST_ASIO is defined.
namespace net = boost::asio;
/// Asio's error code: `boost::system::error_code` here; it converts from `holdfast::errc`.
using error_code = boost::system::error_code;
/// What Asio throws.
using system_error = boost::system::system_error;
#else
/// Asio's namespace: `asio`, or `boost::asio` where HOLDFAST_USE_BOOST_ASIO is defined.
namespace net = asio;
/// Asio's error code: `std::error_code`, or Boost's.
using error_code = std::error_code;
/// What Asio throws: `std::system_error`, or Boost's.
using system_error = std::system_error;
#endif

/// The completion token of an operation that is called without one: the executor's default, and
/// `net::use_awaitable_t<>` where it has none (as `any_io_executor` before Asio 1.31).
template <class Executor>
using default_token_t =
    std::conditional_t<std::is_void_v<typename net::default_completion_token<Executor>::type>, net::use_awaitable_t<>,
                       typename net::default_completion_token<Executor>::type>;

} // namespace holdfast

#endif
