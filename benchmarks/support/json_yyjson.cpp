// holdfast: yyjson as a writer of JSON, from documents that it has read, into a buffer that is used again.
// SPDX-License-Identifier: BSL-1.0
#include "json_newest.hpp"

#include <yyjson.h>

#include <memory>
#include <stdexcept>

namespace benchmarks {
namespace {

using document_ptr = std::shared_ptr<yyjson_doc>;

document_ptr read(std::string_view text)
{
    document_ptr document(yyjson_read(text.data(), text.size(), YYJSON_READ_NOFLAG), yyjson_doc_free);
    if (document == nullptr) throw std::runtime_error("yyjson cannot read the text");
    return document;
}

void write(const yyjson_val* value, std::string& buffer, sink& to)
{
    const std::size_t n = yyjson_val_write_buf(buffer.data(), buffer.size(), value, YYJSON_WRITE_NOFLAG, nullptr);
    if (n == 0) throw std::runtime_error("yyjson failed");
    to.take({buffer.data(), n});
}

} // namespace

named_writers yyjson_writers(std::string_view document)
{
    const document_ptr read_document = read(document);
    auto buffer = std::make_shared<std::string>();
    return {{"yyjson", [=, size = 2 * document.size() + 4096](sink& to) {
                 buffer->resize(size); // more than it needs: it sets aside the most that each value may take
                 write(yyjson_doc_get_root(read_document.get()), *buffer, to);
             }}};
}

named_writers yyjson_writers_of_one(std::string_view quotes)
{
    const document_ptr read_document = read(quotes);
    return {{"yyjson", [=](sink& to) {
                 std::string buffer(4096, '\0');
                 std::size_t index = 0, most = 0;
                 yyjson_val* each = nullptr;
                 yyjson_arr_foreach(yyjson_doc_get_root(read_document.get()), index, most, each)
                     write(each, buffer, to);
             }}};
}

} // namespace benchmarks
