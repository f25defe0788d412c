// holdfast: the fields of a Protobuf message, one after another, without a schema and without a copy.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_PROTOBUF_FIELDS_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_PROTOBUF_FIELDS_HPP

#include <holdfast/error.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace examples {

/// One field as it stands on the wire.
struct protobuf_field {
    std::uint64_t number = 0;
    std::uint64_t integer = 0; ///< of a varint or a fixed field
    std::string_view bytes{};  ///< of a string, bytes or a message
};

/// Reads a message's fields in the order in which they stand there. Unknown ones are the caller's to pass
/// over, as a reader of an older schema must.
///
///     protobuf_fields fields{message};
///     while (const auto field = fields.next())
///         if (field->number == 3) name = field->bytes;
class protobuf_fields {
public:
    explicit protobuf_fields(std::string_view message) noexcept : rest_(message) {}

    /// The next field, or nothing at the end. Throws `errc::malformed_frame` where the bytes are no message.
    std::optional<protobuf_field> next()
    {
        if (rest_.empty()) return {};
        const std::uint64_t tag = varint();
        protobuf_field field{.number = tag >> 3U};
        switch (tag & 7U) {
        case 0:
            field.integer = varint();
            break;
        case 1:
            field.integer = fixed(8);
            break;
        case 2:
            field.bytes = take(varint());
            break;
        case 5:
            field.integer = fixed(4);
            break;
        default: // groups, which are obsolete
            malformed();
        }
        if (field.number == 0) malformed();
        return field;
    }

private:
    [[noreturn]] static void malformed() { throw holdfast::system_error(holdfast::errc::malformed_frame); }

    std::string_view take(std::uint64_t size)
    {
        if (size > rest_.size()) malformed();
        const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(size));
        rest_.remove_prefix(taken.size());
        return taken;
    }

    std::uint64_t varint()
    {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            const auto byte = static_cast<unsigned char>(take(1).front());
            value |= std::uint64_t{byte & 0x7FU} << shift;
            if (byte < 0x80) return value;
        }
        malformed();
    }

    std::uint64_t fixed(std::size_t bytes)
    {
        const std::string_view raw = take(bytes);
        std::uint64_t value = 0;
        for (std::size_t i = bytes; i-- != 0;)
            value = value << 8U | static_cast<unsigned char>(raw[i]);
        return value;
    }

    std::string_view rest_;
};

} // namespace examples

#endif
