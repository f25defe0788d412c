// holdfast: note_end, a finalizer that appends how each connection ended to a list.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_NOTE_END_HPP
#define HOLDFAST_TESTS_SUPPORT_NOTE_END_HPP

#include <holdfast/connection_end.hpp>

#include <vector>

namespace tests {

struct note_end {
    std::vector<holdfast::connection_end>* ends;
    void operator()(const holdfast::connection_end& end) const noexcept { ends->push_back(end); }
};

} // namespace tests

#endif
