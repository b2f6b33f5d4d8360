"""HL7 v2: messages read, what they say of patients and orders, and their acknowledgement."""
