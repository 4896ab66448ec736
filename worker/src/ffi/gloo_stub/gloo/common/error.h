// Named by c10d's header; nothing of it is needed.
#pragma once
