/* The field of an object's structure as a property.
 * Never sends a NULL string: that is "". */
#pragma once

#include <systemd/sd-bus.h>

#include "manager/core/record.h"

/** banger_property_type: its signature. */
const char *banger_property_type (const BangerRecordField *field);
/** banger_property_append: the value of @field in @values. Returns: as sd-bus getters do. */
int banger_property_append (sd_bus_message *reply, const BangerRecordField *field, gconstpointer values);
/** banger_property_append_text: @text made valid: the bus throws out who sends anything else. %NULL is "". */
int banger_property_append_text (sd_bus_message *reply, const char *text);
