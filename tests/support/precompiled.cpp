// holdfast: the translation unit that the tests' precompiled header is made with.
// SPDX-License-Identifier: BSL-1.0
